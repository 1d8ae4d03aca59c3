"""Sliding windows, and the way from the patches of all windows to the pixels of the image.

What a benchmark does with the maps of an image's windows is linear and acts on rows and columns
one after the other: patches are upsampled to their window's pixels, windows are averaged where they
overlap, and the result is upsampled to the image. So each direction is one matrix, rows and columns
of windows lie side by side in one grid of patches, and pixels follow as

    rows @ patches @ columns.T

straight at the image's own size. Nothing of (classes x window pixels) is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

BAND_BYTES = 4 << 20  # of scores made at once: about a core's cache


@dataclass(frozen=True)
class Axis:
    """The windows along one direction of an image.

    Attributes:
        size: pixels of the image that is shown to the encoder.
        window: pixels of a window; a shorter image has one window that is as long as it is.
        stride: pixels between windows; the last one ends where the image does.
        patch: pixels of a patch.
    """

    size: int
    window: int
    stride: int
    patch: int

    @property
    def length(self) -> int:
        """Pixels of each window that lie in the image."""
        return min(self.window, self.size)

    @property
    def padded(self) -> int:
        """Pixels of each window as the encoder sees it: whole patches."""
        return -(-self.length // self.patch) * self.patch

    @property
    def patches(self) -> int:
        """Patches of each window."""
        return self.padded // self.patch

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first pixel of each window."""
        last = self.size - self.length
        return (*range(0, last, self.stride), last)

    def matrix(self, out: int) -> Tensor:
        """From the patches of all windows, one window after the other, to `out` pixels.

        Returns:
            float32 of shape (out, windows * patches); every row sums to 1.
        """
        return _matrix(self, out)


@lru_cache(maxsize=64)
def _matrix(axis: Axis, out: int) -> Tensor:
    # In float64, so that the rows' sums are 1 to the last bit of float32.
    upsample = bilinear(axis.patches, axis.padded)[: axis.length]
    parts = torch.zeros(axis.size, len(axis.starts), axis.patches, dtype=torch.float64)
    for window, start in enumerate(axis.starts):
        parts[start : start + axis.length, window] = upsample
    fused = parts.flatten(1)
    fused /= fused.sum(1, keepdim=True)  # each window's row sums to 1, so this is their number
    return (bilinear(axis.size, out) @ fused).float()


def bilinear(size: int, out: int) -> Tensor:
    """The matrix of `torch.nn.functional.interpolate` in one direction, without aligned corners.

    Returns:
        float64 of shape (out, size).
    """
    unit = torch.eye(size, dtype=torch.float64)[None]
    return F.interpolate(unit, size=out, mode="linear", align_corners=False)[0].T


@dataclass(frozen=True)
class Windows:
    """The windows of one image: every window of `rows` with every one of `columns`."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, height: int, width: int, window: int, stride: int, patch: int) -> Windows:
        """Those of an image of height x width pixels."""
        return cls(Axis(height, window, stride, patch), Axis(width, window, stride, patch))

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of each window as the encoder sees it, in pixels."""
        return self.rows.padded, self.columns.padded

    def cut(self, image: Tensor) -> Tensor:
        """The windows of an image, row by row.

        Args:
            image: shape (channels, height, width).

        Returns:
            shape (windows, channels, *`shape`); 0 beyond the image.
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

    def join(self, maps: Tensor) -> Tensor:
        """Maps of all windows side by side, the grid of patches that `pixels` starts from.

        Args:
            maps: shape (windows, classes, patches down, patches across), in the order of `cut`.

        Returns:
            shape (classes, all patches down, all patches across).
        """
        grid = maps.unflatten(0, (len(self.rows.starts), len(self.columns.starts)))
        return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)

    def pixels(self, patches: Tensor, height: int, width: int) -> Iterator[tuple[slice, Tensor]]:
        """The fused map of an image at any size, in bands of rows.

        Args:
            patches: as `join` gives them.
            height, width: of the image that the map is for.

        Yields:
            the rows, and their values of shape (classes, rows, width).
        """
        down = self.rows.matrix(height).to(patches)
        across = self.columns.matrix(width).to(patches).T
        rows = max(1, BAND_BYTES // (4 * len(patches) * width))
        for first in range(0, height, rows):
            band = down[first : first + rows]
            used = band.any(0).nonzero().squeeze(1)
            values = band[:, used] @ (patches[:, used] @ across)
            yield slice(first, first + len(band)), values
