"""Keeps the patch tokens of whole pictures on the frozen path, for later training or analysis.

DIR/features.json             the model, the path and the pixels
DIR/features-000000.safetensors
    images   int64 (n,)       rows of the image index
    tokens   float16 (n, N, C)  before the ViT's last norm and projection, in row-major order
    classes  float16 (n, D)   class tokens in the joint space, of unit length
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from common.errors import UserError
from common.storage import Folder

ABOUT = "features.json"
NAMES = ("model", "model_fingerprint", "images", "path", "depth", "size", "chunk")


class FeatureFolder:
    """A folder of features, a file for each chunk of a check."""

    def __init__(self, folder: Folder):
        self.folder = folder

    @classmethod
    def open(cls, url: str, about: dict[str, Any]) -> FeatureFolder:
        """Makes the folder, or opens one of the same model, path and pictures.

        Raises:
            UserError: it holds other features, or cannot be written.
        """
        folder = Folder(url)
        folder.make()
        wanted = {name: about[name] for name in NAMES}
        if not folder.exists(ABOUT):
            folder.write_json(ABOUT, wanted)
        elif folder.read_json(ABOUT) != wanted:
            raise UserError(f"{url} holds the features of other pictures or of another model")
        return cls(folder)

    @staticmethod
    def name(chunk: int) -> str:
        return f"features-{chunk:06d}.safetensors"

    def write(self, chunk: int, batches: list[tuple[np.ndarray, Tensor, Tensor]]) -> None:
        """Raises `UserError` where there is no room."""
        if not batches:
            return
        images = np.concatenate([one[0] for one in batches])
        tensors = {
            "images": torch.from_numpy(images),
            "tokens": torch.cat([one[1] for one in batches]),
            "classes": torch.cat([one[2] for one in batches]),
        }
        self.folder.write(self.name(chunk), save(tensors))

    def read(self, chunk: int) -> dict[str, Tensor]:
        return load(self.folder.read(self.name(chunk)))
