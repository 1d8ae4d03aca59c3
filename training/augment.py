"""Decodes an image and crops a square out of it, at no higher resolution than the crop needs."""

from __future__ import annotations

import contextlib
import io
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional as F

from training.images import SIDEWAYS, as_rgb, turn

RANDOM, CENTER, WHOLE = "random", "center", "whole"
CROPS = (RANDOM, CENTER, WHOLE)
BICUBIC, BILINEAR = "bicubic", "bilinear"
INTERPOLATIONS = (BICUBIC, BILINEAR)
_LOG_RATIO = math.log(4 / 3)
_LOG_ERASED = math.log(10 / 3)
Box = tuple[int, int, int, int]  # left, top, width, height


@dataclass(frozen=True)
class Augmentation:
    """The way from an image file to the encoder's pixels.

    Attributes:
        size: side of the square, in pixels.
        crop: `random` (a random box, resized), `center` (the largest square in the middle, resized) or
            `whole` (all of the image, resized to a square).
        min_scale: the smallest share of the image's area that a random crop takes.
        flip: probability of a horizontal flip.
        jitter: brightness, contrast and saturation are each changed by a factor drawn from
            [1 - jitter, 1 + jitter].
        interpolation: how the crop is resized, `bicubic` or `bilinear`; both are antialiased.
        randaugment: RandAugment (arXiv 1909.13719) as timm writes it, or "".
        erasing: probability that noise takes the place of a rectangle (arXiv 1708.04896) of 1/50 to 1/3 of
            the image. Each value is drawn from a normal distribution of the channel's `mean` and `std`,
            and cut to [0, 255].
        mean, std: of each channel, for pixels in [0, 1]; RandAugment fills what it uncovers with `mean`.

    Raises:
        ValueError: a value is out of its range.
    """

    size: int = 224
    crop: str = RANDOM
    min_scale: float = 0.08
    flip: float = 0.0
    jitter: float = 0.0
    interpolation: str = BICUBIC
    randaugment: str = ""
    erasing: float = 0.0
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise ValueError(f"the crop is one of {', '.join(CROPS)}, not '{self.crop}'")
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"the smallest crop is a share in (0, 1], not {self.min_scale}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"the flip is a probability, not {self.flip}")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ValueError(f"the interpolation is one of {known}, not '{self.interpolation}'")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"the erasing is a probability, not {self.erasing}")
        if self.randaugment:
            try:
                self._randaugment()
            except Exception as error:  # timm asserts, and reads numbers
                raise ValueError(
                    f"RandAugment is written as rand-m9-mstd0.5-inc1, not '{self.randaugment}'"
                ) from error
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
        elif self.crop == CENTER:
            left, top, wide, high = middle(width, height)
        else:
            left, top, wide, high = 0, 0, width, height
        # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if the crop still fills the square then.
        # The crop is rounded to whole pixels of the smaller image.
        enough = (-(-width * self.size // wide), -(-height * self.size // high))
        image.draft("RGB", enough[::-1] if on_side else enough)
        image = as_rgb(image, method)
        x, y = image.width / width, image.height / height
        image = image.crop(
            (round(left * x), round(top * y), round((left + wide) * x), round((top + high) * y))
        )
        square = resize(np.array(image), self.size, self.interpolation)
        if self.flip and rng.random() < self.flip:
            square = square[:, ::-1]
        if self.randaugment:
            with _seeded(rng.getrandbits(32)):
                square = np.asarray(self._randaugment()(Image.fromarray(square)))
        if self.jitter:
            image = Image.fromarray(square)
            for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = change(image).enhance(rng.uniform(1 - self.jitter, 1 + self.jitter))
            square = np.asarray(image)
        if self.erasing and rng.random() < self.erasing:
            square = erased(square, self.mean, self.std, rng)
        return square

    def _randaugment(self) -> Callable[[Image.Image], Image.Image]:
        return _timms_randaugment(self.randaugment, self.size, self.mean, self.interpolation)


@lru_cache(maxsize=8)
def _timms_randaugment(
    name: str, size: int, mean: tuple[float, ...], interpolation: str
) -> Callable[[Image.Image], Image.Image]:
    """RandAugment with the settings that timm and DeiT give it for images of this size."""
    from timm.data.auto_augment import rand_augment_transform  # slow to import

    if not name.startswith("rand-"):
        raise ValueError(name)
    return rand_augment_transform(
        name,
        {
            "translate_const": int(size * 0.45),
            "img_mean": tuple(min(255, round(255 * value)) for value in mean),
            "interpolation": Image.Resampling[interpolation.upper()],
        },
    )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds Python's and NumPy's global generators, which timm draws from, for a block alone."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def erased(
    square: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], rng: random.Random
) -> np.ndarray:
    """A copy with noise in a rectangle of 1/50 to 1/3 of its area and sides of 3:10 to 10:3.

    Args:
        square: uint8 of shape (size, size, 3).
        mean, std: of the noise in each channel, for pixels in [0, 1].
        rng: draws the rectangle and the noise.
    """
    size = len(square)
    for _ in range(10):
        area = size * size * rng.uniform(0.02, 1 / 3)
        ratio = math.exp(rng.uniform(-_LOG_ERASED, _LOG_ERASED))
        high, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < high < size and 0 < wide < size:
            top, left = rng.randint(0, size - high), rng.randint(0, size - wide)
            noise = np.random.default_rng(rng.getrandbits(64)).standard_normal((high, wide, 3))
            values = (np.array(mean) + np.array(std) * noise) * 255  # (high, wide, 3)
            square = square.copy()
            square[top : top + high, left : left + wide] = values.round().clip(0, 255)
            break
    return square


def resize(image: np.ndarray, size: int, interpolation: str = BICUBIC) -> np.ndarray:
    """Resizes by antialiased interpolation, as Pillow does.

    Pillow's own resizing takes as long as decoding a JPEG; torch has vector instructions for bytes. The
    two differ by 1 of 255 in some pixels, and by a few at edges between black and white.

    Args:
        image: uint8 of shape (height, width, 3).
        size: side of the square.
        interpolation: `bicubic` or `bilinear`.

    Returns:
        uint8 of shape (size, size, 3).
    """
    # The batch dimension comes first, so that torch sees and keeps the channels-last layout.
    batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)  # (1, 3, height, width)
    resized = F.interpolate(  # (1, 3, size, size)
        batch, (size, size), mode=interpolation, align_corners=False, antialias=True
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
