"""Decodes an image and crops a square out of it, at no higher resolution than the crop needs."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional as F

from training.images import SIDEWAYS, as_rgb, turn

RANDOM, CENTER = "random", "center"
CROPS = (RANDOM, CENTER)
_LOG_RATIO = math.log(4 / 3)
Box = tuple[int, int, int, int]  # left, top, width, height


@dataclass(frozen=True)
class Augmentation:
    """The way from an image file to the encoder's pixels.

    Attributes:
        size: side of the square, in pixels.
        crop: `random` (a random box, resized) or `center` (the largest square in the middle, resized).
        min_scale: the smallest share of the image's area that a random crop takes.
        flip: probability of a horizontal flip.
        jitter: brightness, contrast and saturation are each changed by a factor drawn from
            [1 - jitter, 1 + jitter].

    Raises:
        ValueError: a value is out of its range.
    """

    size: int = 224
    crop: str = RANDOM
    min_scale: float = 0.08
    flip: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise ValueError(f"the crop is one of {', '.join(CROPS)}, not '{self.crop}'")
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"the smallest crop is a share in (0, 1], not {self.min_scale}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"the flip is a probability, not {self.flip}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"the jitter is in [0, 1), not {self.jitter}")
        if self.size < 1:
            raise ValueError(f"images have at least one pixel, not {self.size}")

    def __call__(self, data: bytes, seed: int) -> np.ndarray:
        """Decodes one image and crops the square.

        Args:
            data: a file in any format that Pillow reads.
            seed: of the crop, the flip and the jitter.

        Returns:
            uint8 of shape (size, size, 3).

        Raises:
            Exception: whatever Pillow raises for a file that it cannot decode.
        """
        rng = random.Random(seed)
        image = Image.open(io.BytesIO(data))
        method = turn(image)
        on_side = method in SIDEWAYS
        width, height = image.size[::-1] if on_side else image.size
        if self.crop == RANDOM:
            left, top, wide, high = random_box(width, height, self.min_scale, rng)
        else:
            left, top, wide, high = middle(width, height)
        # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if the crop still fills the square then.
        # The crop is rounded to whole pixels of the smaller image.
        enough = (-(-width * self.size // wide), -(-height * self.size // high))
        image.draft("RGB", enough[::-1] if on_side else enough)
        image = as_rgb(image, method)
        x, y = image.width / width, image.height / height
        image = image.crop(
            (round(left * x), round(top * y), round((left + wide) * x), round((top + high) * y))
        )
        square = resize(np.array(image), self.size)
        if self.flip and rng.random() < self.flip:
            square = square[:, ::-1]
        if self.jitter:
            image = Image.fromarray(square)
            for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = change(image).enhance(rng.uniform(1 - self.jitter, 1 + self.jitter))
            square = np.asarray(image)
        return square


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes by antialiased bicubic interpolation, as Pillow does.

    Pillow's own resizing takes as long as decoding a JPEG; torch has vector instructions for bytes. The
    two differ by 1 of 255 in some pixels, and by a few at edges between black and white.

    Args:
        image: uint8 of shape (height, width, 3).
        size: side of the square.

    Returns:
        uint8 of shape (size, size, 3).
    """
    # The batch dimension comes first, so that torch sees and keeps the channels-last layout.
    batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)  # (1, 3, height, width)
    resized = F.interpolate(  # (1, 3, size, size)
        batch, (size, size), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.permute(0, 2, 3, 1)[0].numpy()


def random_box(width: int, height: int, min_scale: float, rng: random.Random) -> Box:
    """A random box with a share of [min_scale, 1] of the image's area and sides of 3:4 to 4:3.

    The share is uniform, the ratio of the sides log-uniform. If ten boxes do not fit into the image,
    the result is the largest box in the middle whose ratio is allowed.
    """
    for _ in range(10):
        area = width * height * rng.uniform(min_scale, 1.0)
        ratio = math.exp(rng.uniform(-_LOG_RATIO, _LOG_RATIO))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return rng.randint(0, width - wide), rng.randint(0, height - high), wide, high
    wide = min(width, max(round(height * 4 / 3), 1))
    high = min(height, max(round(width * 4 / 3), 1))
    return (width - wide) // 2, (height - high) // 2, wide, high


def middle(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side
