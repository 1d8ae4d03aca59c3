"""Sliding windows, and the fusion of their patch maps into a pixel map of the image.

Fusion has three steps: patches are upsampled to their window's pixels, overlapping windows are averaged,
and the result is upsampled to the image. All three are linear and separable into rows and columns. So
each direction is one matrix, and the pixel map is

    rows @ patches @ columns.T

at the image's size, where `patches` holds the patches of all windows side by side. Windows are never
upsampled one by one, which saves (classes x window pixels) of memory per window.

Shapes: B windows (r rows times c columns of them), n classes; h, w patches of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

BAND_BYTES = 4 << 20  # of scores computed at once: about the size of a core's cache
BLOCK_ROWS = 64  # pixels' rows whose patches are upsampled to the width together


@dataclass(frozen=True)
class Axis:
    """The windows along one direction of an image.

    Attributes:
        size: pixels of the resized image.
        window: pixels of a window; an image that is shorter has one window of its own length.
        stride: pixels between windows; the last window ends at the image's end.
        patch: pixels of a patch.
    """

    size: int
    window: int
    stride: int
    patch: int

    @property
    def length(self) -> int:
        """Pixels of a window without padding."""
        return min(self.window, self.size)

    @property
    def padded(self) -> int:
        """Pixels of a window, padded to whole patches for the encoder."""
        return -(-self.length // self.patch) * self.patch

    @property
    def patches(self) -> int:
        """Patches of a window."""
        return self.padded // self.patch

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first pixel of each window."""
        last = self.size - self.length
        return (*range(0, last, self.stride), last)

    def matrix(self, out: int) -> Tensor:
        """The matrix that fuses the patches of all windows into `out` pixels.

        Returns:
            float32 of shape (out, windows * patches), windows in order; every row sums to 1.
        """
        return _matrix(self, out)

    def bands(self, out: int, rows: int, device: torch.device) -> tuple[Band, ...]:
        """The matrix in bands of rows, each without the columns that are 0 in all of its rows.

        They are found on the CPU and kept, as a GPU would stop the host for each band.
        """
        return _bands(self, out, rows, device)


class Band(NamedTuple):
    """Some rows of an axis's matrix.

    Attributes:
        rows: which.
        used: columns that are not 0, int64 of shape (k,).
        values: float32 of shape (rows, k).
    """

    rows: slice
    used: Tensor
    values: Tensor


@lru_cache(maxsize=64)
def _bands(axis: Axis, out: int, rows: int, device: torch.device) -> tuple[Band, ...]:
    matrix, bands = _matrix(axis, out), []
    for first in range(0, out, rows):
        band = matrix[first : first + rows]
        used = torch.from_numpy(np.flatnonzero(band.numpy().any(0)))
        place = slice(first, first + len(band))
        bands.append(Band(place, used.to(device), band[:, used].to(device)))
    return tuple(bands)


@lru_cache(maxsize=64)
def _matrix(axis: Axis, out: int) -> Tensor:
    # In float64, so that the sums of the rows are 1 to float32 precision.
    upsample = bilinear(axis.patches, axis.padded)[: axis.length]  # (length, patches)
    parts = torch.zeros(axis.size, len(axis.starts), axis.patches, dtype=torch.float64)
    for window, start in enumerate(axis.starts):
        parts[start : start + axis.length, window] = upsample
    fused = parts.flatten(1)  # (size, windows * patches)
    fused /= fused.sum(1, keepdim=True)  # the number of windows at a pixel, as each row sums to 1
    return (bilinear(axis.size, out) @ fused).float()


def bilinear(size: int, out: int) -> Tensor:
    """The matrix of linear `torch.nn.functional.interpolate` with `align_corners=False`.

    Returns:
        float64 of shape (out, size).
    """
    unit = torch.eye(size, dtype=torch.float64)[None]
    return F.interpolate(unit, size=out, mode="linear", align_corners=False)[0].T


@dataclass(frozen=True)
class Windows:
    """The windows of one image: the product of the windows of `rows` and of `columns`."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, height: int, width: int, window: int, stride: int, patch: int) -> Windows:
        """The windows of an image of height x width pixels."""
        return cls(Axis(height, window, stride, patch), Axis(width, window, stride, patch))

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a padded window in pixels."""
        return self.rows.padded, self.columns.padded

    def cut(self, image: Tensor) -> Tensor:
        """Cuts an image into its windows, row by row.

        Args:
            image: shape (channels, height, width).

        Returns:
            shape (B, channels, *`shape`), padded with 0.
        """
        down, across = (
            self.rows.padded - self.rows.length,
            self.columns.padded - self.columns.length,
        )
        image = F.pad(image, (0, across, 0, down))
        height, width = self.shape
        return torch.stack(
            [
                image[:, y : y + height, x : x + width]
                for y in self.rows.starts
                for x in self.columns.starts
            ]
        )

    def places(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each window in the image, in the order of `cut`, without padding."""
        return [
            (slice(y, y + self.rows.length), slice(x, x + self.columns.length))
            for y in self.rows.starts
            for x in self.columns.starts
        ]

    def join(self, maps: Tensor) -> Tensor:
        """Joins the maps of all windows into one grid of patches, the input of `pixels`.

        Args:
            maps: shape (B, n, h, w), in the order of `cut`.

        Returns:
            shape (n, r * h, c * w).
        """
        # (r, c, n, h, w)
        grid = maps.unflatten(0, (len(self.rows.starts), len(self.columns.starts)))
        return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)

    def pixels(self, patches: Tensor, height: int, width: int) -> Iterator[tuple[slice, Tensor]]:
        """The pixel map of an image at any size, in bands of rows.

        Args:
            patches: the output of `join`, shape (n, r * h, c * w).
            height, width: of the map in pixels.

        Yields:
            a band's rows, and its values of shape (rows, n, width), which the caller may overwrite.
        """
        across = self.columns.matrix(width).to(patches, non_blocking=True).T  # (c * w, width)
        by_row = patches.transpose(0, 1)  # (r * h, n, c * w)
        rows = max(1, BAND_BYTES // (4 * len(patches) * width))
        for block in self.rows.bands(height, BLOCK_ROWS, patches.device):
            # Each row of patches is upsampled once for all bands of the block, and bands are one product.
            wide = (by_row.index_select(0, block.used) @ across).flatten(1)  # (k, n * width)
            for first in range(0, len(block.values), rows):
                down = block.values[first : first + rows].to(patches)  # (rows, k)
                start = block.rows.start + first
                place = slice(start, start + len(down))
                yield place, (down @ wide).unflatten(1, (len(patches), width))
