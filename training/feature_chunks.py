"""A chunk of kept features: a safetensors file that is written batch by batch, and read picture by picture.

    tokens   float16 (n, N, C)    patch tokens, in row-major order
    classes  float16 (n, C)       class tokens
    images   int64 (n,)           rows of the pictures' own index

Shapes: n pictures of a chunk, b of a batch, N patches, C channels of the encoder.
"""

from __future__ import annotations

import json
from math import prod
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from training.images import ImageFiles, ImageReader

AGAIN = "run the same check_tags command again"
_HEADER = 1024  # bytes, padded with spaces
_LONGEST_HEADER = 1 << 20
_KINDS = {"tokens": "F16", "classes": "F16", "images": "I64"}


class ChunkWriter:
    """Writes a chunk, of which only a batch is in memory.

    A chunk is gigabytes, and safetensors writes whole tensors. So the header is written here, at the end.
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.images: list[np.ndarray] = []
        self.classes: list[np.ndarray] = []
        self.shape = (0, 0)  # (N, C)
        file.write(bytes(8 + _HEADER))

    def add(self, images: np.ndarray, tokens: Tensor, classes: Tensor) -> None:
        """Adds b pictures.

        Args:
            images: rows of their index, shape (b,).
            tokens: shape (b, N, C).
            classes: shape (b, C).

        Raises:
            UserError: a value has no float16.
        """
        halves = [one.to(torch.float16).cpu().contiguous() for one in (tokens, classes)]
        if not all(one.isfinite().all() for one in halves):
            raise UserError(
                "a token of this model is no number or beyond float16 (65,504): --features cannot keep it"
            )
        self.shape = tuple(tokens.shape[1:])
        self.file.write(halves[0].numpy().tobytes())
        self.classes.append(halves[1].numpy())
        self.images.append(np.asarray(images, np.int64))

    def end(self) -> None:
        """Writes the small tensors and the header."""
        images = np.concatenate([np.zeros(0, np.int64), *self.images])
        classes = np.concatenate(self.classes or [np.zeros((0, 0), np.float16)])
        self.file.write(classes.tobytes() + images.tobytes())
        shapes = {
            "tokens": (len(images), *self.shape),
            "classes": classes.shape,
            "images": images.shape,
        }
        header, end = {}, 0
        for name, shape in shapes.items():
            start, end = end, end + prod(shape) * (8 if name == "images" else 2)
            header[name] = {"dtype": _KINDS[name], "shape": shape, "data_offsets": (start, end)}
        text = json.dumps(header).encode().ljust(_HEADER)
        self.file.seek(0)
        self.file.write(len(text).to_bytes(8, "little") + text)
        self.file.flush()


class Place(NamedTuple):
    """Where a tensor begins in its file, in bytes, and its shape."""

    start: int
    shape: tuple[int, ...]


class ChunkReader:
    """Reads parts of chunks; can be pickled, for the processes of a loader.

    Args:
        paths: of the chunks, local or any fsspec URL.
    """

    def __init__(self, paths: tuple[str, ...]):
        self.paths = paths
        self._reader = ImageReader(ImageFiles(paths, are_shards=True))

    def read(self, chunk: int, start: int, size: int) -> bytes:
        """Bytes [start, start + size) of a chunk's file.

        Raises:
            OSError: the file is gone, or shorter.
        """
        data = self._reader.read(chunk, "", start, size)
        if len(data) < size:  # as remote file systems give at the end of a file
            raise OSError(f"{self.paths[chunk]} has become shorter")
        return data

    def places(self, chunk: int) -> dict[str, Place]:
        """The tensors of a chunk, by name.

        Raises:
            UserError: its file is missing, cut off or damaged.
        """
        try:
            length = int.from_bytes(self.read(chunk, 0, 8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(self.read(chunk, 8, length))
            if {name: one["dtype"] for name, one in header.items()} != _KINDS:
                raise ValueError("other tensors")
            end = 8 + length + max(one["data_offsets"][1] for one in header.values())
            self.read(chunk, end - 1, 1)
        except FileNotFoundError as error:
            raise UserError(f"{self.paths[chunk]} is missing: {AGAIN}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.paths[chunk]} is cut off or damaged: {AGAIN}") from error
        return {
            name: Place(8 + length + one["data_offsets"][0], tuple(one["shape"]))
            for name, one in header.items()
        }
