"""Grounds: textures larger than a picture, of which every scene shows another part."""

from __future__ import annotations

import numpy as np
from PIL import Image

VARIANTS = 4


def paint_ground(name: str, side: int, variant: int) -> np.ndarray:
    """A texture, uint8 of shape (2 side, 2 side, 3).

    Args:
        name: one of `world.GROUNDS`.
        side: pixels of the pictures that will show a part of it.
        variant: number of a texture of the same kind.
    """
    random = np.random.default_rng([variant, *name.encode()])
    full, unit = 2 * side, side / 64
    y, x = np.mgrid[:full, :full] / unit

    def noise(across: float, down: float | None = None) -> np.ndarray:
        """Smooth noise of unit variance with grains of so many units."""
        shape = [max(2, round(full / unit / grain)) for grain in (down or across, across)]
        grid = Image.fromarray(random.standard_normal(shape).astype(np.float32))
        smooth = np.asarray(grid.resize((full, full), Image.Resampling.BICUBIC))
        return (smooth / smooth.std())[..., None]

    def colour(*rgb: int) -> np.ndarray:
        return np.array(rgb, np.float32)

    if name == "grass":
        image = colour(92, 142, 62) + noise(1.2, 5) * colour(20, 24, 12) + noise(20) * 10
    elif name == "sand":
        image = colour(214, 188, 140) + noise(1) * 9 + noise(14, 5) * colour(9, 9, 7)
    elif name == "snow":
        image = colour(228, 235, 244) + noise(18) * colour(9, 8, 5) + noise(1) * 3
    elif name == "sky":
        cloud = 1 / (1 + np.exp(-2.5 * (noise(26, 14) + 0.5 * noise(9, 6) - 0.4)))
        image = colour(112, 172, 232) * (1 - cloud) + colour(240, 244, 250) * cloud
    elif name == "wood":
        plank = (y // 16).astype(int)
        tone = random.normal(0, 10, plank.max() + 1)[plank][..., None]
        image = colour(166, 116, 72) + tone + noise(16, 1.2) * colour(11, 9, 7)
        image[(y % 16) < 1.2] *= 0.6
    elif name == "brick":
        row = (y // 9).astype(int)
        column = ((x + 9 * (row % 2)) // 18).astype(int)
        tone = random.normal(0, 13, (row.max() + 1, column.max() + 1))[row, column][..., None]
        image = colour(162, 84, 66) + tone + noise(1.5) * 7
        mortar = ((y % 9) < 1.5) | (((x + 9 * (row % 2)) % 18) < 1.5)
        image[mortar] = (colour(196, 188, 178) + noise(1) * 6)[mortar]
    elif name == "water":
        bend = noise(22, 12)[..., 0]
        wave = np.sin(y * 0.9 + 2.2 * bend + 0.12 * x)[..., None]
        image = colour(46, 118, 168) + wave * colour(14, 17, 16) + noise(16) * 6
    elif name == "carpet":
        lattice = ((x + y) % 12 < 2) | ((x - y) % 12 < 2)
        image = colour(126, 70, 88) + noise(1) * 8
        image[lattice] += colour(44, 40, 20)
    else:
        raise ValueError(f"there is no ground called '{name}'")
    return np.clip(image, 0, 255).astype(np.uint8)
