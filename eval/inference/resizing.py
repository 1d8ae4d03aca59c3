"""How images are resized before windows are cut, and label maps after.

`plain` is bilinear between the four nearest pixels, as OpenCV and mmcv resize; `antialias` is Pillow's
bilinear, which averages over all pixels that a smaller one covers. The two differ at edges.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from eval.inference.settings import ANTIALIAS, PLAIN


def resized_size(size: tuple[int, int], shorter: int, longest: int) -> tuple[int, int]:
    """(width, height) with a shorter side of `shorter`, or less where the longer side would pass `longest`.

    Args:
        size: (width, height) of an image.
        shorter: pixels; 0 keeps the size.
        longest: pixels.
    """
    if not shorter:
        return size
    ratio = min(shorter / min(size), longest / max(size))
    return tuple(max(1, int(side * ratio + 0.5)) for side in size)


def reduced(image: Image.Image, most_pixels: int) -> Image.Image:
    """The image, or a smaller one whose longer side is the root of `most_pixels`, if it has more.

    Args:
        image: RGB.
        most_pixels: 0 for no limit.
    """
    width, height = image.size
    if not most_pixels or width * height <= most_pixels:
        return image
    side = int(most_pixels**0.5)
    ratio = side / max(width, height)
    size = tuple(side if one == max(image.size) else max(1, int(one * ratio)) for one in image.size)
    return Image.fromarray(to_pixels(image, size, PLAIN, torch.device("cpu")).numpy())


def to_pixels(image: Image.Image, size: tuple[int, int], how: str, device: torch.device) -> Tensor:
    """An image resized: uint8 of shape (height, width, 3).

    Args:
        image: RGB.
        size: (width, height) in pixels.
        how: `plain` or `antialias`.
        device: of the result.
    """
    if how == ANTIALIAS and size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).to(device, non_blocking=True)
    if size == image.size:
        return pixels
    planes = pixels.permute(2, 0, 1)[None].float()  # (1, 3, height, width)
    resized = F.interpolate(planes, size[::-1], mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).round().to(torch.uint8)


def enlarge(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Classes of shape (height, width) by nearest at another size, given as (height, width)."""
    if labels.shape == size:
        return labels
    return F.interpolate(labels[None, None].float(), size, mode="nearest")[0, 0].to(labels.dtype)
