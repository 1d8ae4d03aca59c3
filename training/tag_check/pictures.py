"""Reads whole pictures in batches, in the order of the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.augment import WHOLE, Augmentation
from training.images import ImageFiles, ImageReader


class Pictures(NamedTuple):
    """Some pictures.

    Attributes:
        images: rows of the index of the pictures that could be decoded, int64 of shape (b,).
        pixels: of these pictures, uint8 of shape (b, size, size, 3).
        broken: files and names of the others.
    """

    images: np.ndarray
    pixels: Tensor
    broken: list[str]


class PictureFiles(Dataset):
    """Reads rows of an index. A picture is resized to a square, as nothing of it may be cut off, in the way of
    training's `--crop whole`.

    Args:
        index, files: see `training.images`.
        size: pixels of the side.
    """

    def __init__(self, index, files: ImageFiles, size: int):
        self.index, self.reader, self.size = index, ImageReader(files), size
        self.square = Augmentation(size, WHOLE)

    def __getitems__(self, rows: Sequence[int]) -> Pictures:
        found = self.index[list(rows)]
        places = zip(found["file"], found["name"], found["offset"], found["size"], strict=True)
        images, squares, broken = [], [], []
        for row, place in zip(rows, places, strict=True):
            try:
                squares.append(torch.from_numpy(self.square(self.reader.read(*place), seed=0)))
                images.append(row)
            except Exception:  # Pillow and its plugins raise exceptions of any type
                broken.append(self.reader.where(*place[:2]))
        pixels = torch.stack(squares) if squares else torch.zeros(0, self.size, self.size, 3)
        return Pictures(np.array(images, np.int64), pixels, broken)

    def batches(self, rows: np.ndarray, size: int, workers: int) -> Iterator[Pictures]:
        """The pictures of these rows, in their order."""
        parts = [rows[at : at + size].tolist() for at in range(0, len(rows), size)]
        yield from DataLoader(
            self,
            batch_sampler=parts,
            num_workers=min(workers, len(parts)),
            collate_fn=_identity,
            generator=torch.Generator(),
        )


def _identity(pictures: Pictures) -> Pictures:
    return pictures
