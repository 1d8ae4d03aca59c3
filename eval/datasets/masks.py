"""Reads mask files: an integer for each pixel, however the file stores it.

Shapes: H, W height and width of an image in pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_GREY_STEPS = {"L;2": 85, "L;4": 17}  # what Pillow multiplies grey values of 2 and 4 bits by


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask: palette indices or grey levels, integers of shape (H, W).

    Grey levels of fewer than eight bits are those that the file stores, and floats are whole numbers.

    Raises:
        ValueError: the file has several channels, is a JPEG, or holds numbers that are not whole.
    """
    with Image.open(path) as image:
        _check_lossless(image)
        step = _grey_step(image)
        values = np.array(image)  # (H, W), or (H, W, channels)
    if values.ndim != 2:
        raise ValueError(f"it has {values.shape[2]} channels instead of one")
    if values.dtype.kind == "f":
        if not ((np.abs(values) < 1 << 31) & (values == np.trunc(values))).all():  # NaN is neither
            raise ValueError("it holds numbers that are not whole")
        return values.astype(np.int64)
    if values.dtype == bool:
        return values.astype(np.uint8)  # 0 and 1
    return values if step == 1 else values // step


def read_coloured_mask(path: Path) -> np.ndarray:
    """Reads a mask whose colours encode classes: red, green and blue, uint8 of shape (H, W, 3).

    Raises:
        ValueError: the file is grey, or a JPEG.
    """
    with Image.open(path) as image:
        _check_lossless(image)
        if image.mode not in ("P", "RGB", "RGBA"):
            raise ValueError(f"it is of mode {image.mode} instead of RGB")
        return np.array(image.convert("RGB"))


def _check_lossless(image: Image.Image) -> None:
    if image.format in ("JPEG", "MPO"):
        raise ValueError("it is a JPEG, whose compression changes the numbers of classes")


def _grey_step(image: Image.Image) -> int:
    """By what Pillow multiplies the values of an opened image, so that they fill eight bits."""
    how = image.tile[0].args if image.tile else None
    return _GREY_STEPS.get(str(how[0] if isinstance(how, tuple) else how)[:3], 1)
