"""JPEG bytes to a square crop, decoded no larger than the crop needs."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional as F

RANDOM, CENTER = "random", "center"
CROPS = (RANDOM, CENTER)
_LOG_RATIO = math.log(4 / 3)
Box = tuple[int, int, int, int]  # left, top, width, height


@dataclass(frozen=True)
class Augmentation:
    """What happens to an image between the file and the encoder.

    Attributes:
        size: side of the square, in pixels.
        crop: `random` (a random part of the image, resized) or `center` (shorter side resized, middle
            cut out).
        min_scale: the smallest part of the image's area that a random crop takes.
        flip: probability of being mirrored left to right.
        jitter: brightness, contrast and saturation are each changed by a factor drawn from
            [1 - jitter, 1 + jitter].
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
        """Decodes one image and cuts the square out of it.

        Args:
            data: a file in any format that Pillow reads.
            seed: all that is random here follows from it.

        Returns:
            uint8 of shape (size, size, 3).

        Raises:
            Exception: whatever Pillow raises for a file that it cannot decode.
        """
        draw = random.Random(seed)
        image = Image.open(io.BytesIO(data))
        width, height = image.size
        if self.crop == RANDOM:
            left, top, wide, high = random_box(width, height, self.min_scale, draw)
        else:
            left, top, wide, high = middle(width, height)
        # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the crop still fills the square,
        # and the crop then begins and ends at whole pixels of that.
        image.draft("RGB", (-(-width * self.size // wide), -(-height * self.size // high)))
        x, y = image.width / width, image.height / height
        image = image.crop(
            (round(left * x), round(top * y), round((left + wide) * x), round((top + high) * y))
        )
        if image.mode != "RGB":
            image = image.convert("RGB")  # which copies also where there is nothing to convert
        square = resize(np.array(image), self.size)
        if self.flip and draw.random() < self.flip:
            square = square[:, ::-1]
        if self.jitter:
            image = Image.fromarray(square)
            for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = change(image).enhance(draw.uniform(1 - self.jitter, 1 + self.jitter))
            square = np.asarray(image)
        return square


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes bicubically, and over as many pixels as each new one covers, as Pillow does.

    Pillow's own takes as long as decoding a JPEG; torch's has vector instructions for bytes. The two
    differ by a level of 255 in some pixels, by a few levels beside edges of black and white.

    Args:
        image: uint8 of shape (height, width, 3).
        size: side of the square.

    Returns:
        uint8 of shape (size, size, 3).
    """
    # A batch of one before channels are moved: so torch knows the layout and keeps it.
    batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    resized = F.interpolate(
        batch, (size, size), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.permute(0, 2, 3, 1)[0].numpy()


def random_box(width: int, height: int, min_scale: float, draw: random.Random) -> Box:
    """A part of an image with an area of [min_scale, 1] of it and sides of 3:4 to 4:3.

    Shares of the area are uniform, ratios of the sides log-uniform. An image into which ten such
    draws do not fit gives its middle, as close to the allowed ratios as it can.
    """
    for _ in range(10):
        area = width * height * draw.uniform(min_scale, 1.0)
        ratio = math.exp(draw.uniform(-_LOG_RATIO, _LOG_RATIO))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return draw.randint(0, width - wide), draw.randint(0, height - high), wide, high
    wide = min(width, max(round(height * 4 / 3), 1))
    high = min(height, max(round(width * 4 / 3), 1))
    return (width - wide) // 2, (height - high) // 2, wide, high


def middle(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side
