"""Draws a scene: its picture, and the exact pixels of every thing in it.

Each thing is drawn once for every extent and angle, at six times the size, and averaged. A scene is then a
part of its ground with a few small arrays laid over it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from workflows.shapes.grounds import VARIANTS, paint_ground
from workflows.shapes.things import FIXED, MAIN, SHADE, THINGS
from workflows.shapes.world import COLOURS, GROUNDS, TEXTURES, Placed, Scene

SIDE = 64  # pixels of a picture
_FINE = 6  # a sprite is drawn this many times larger
_OUTLINE = 0.011  # of the picture: a dark rim between a thing and its ground
_SHADE = 0.55
_PAINTS = (MAIN, SHADE, *FIXED)


class Sprite(NamedTuple):
    """A thing without its colour.

    Attributes:
        main, shade: share of each pixel in the thing's colour and in its darker tone, (h, w, 1).
        fixed: the other paints, already weighted, (h, w, 3).
        ground: share of each pixel that stays ground, (h, w, 1).
    """

    main: np.ndarray
    shade: np.ndarray
    fixed: np.ndarray
    ground: np.ndarray


class Painter:
    """Draws scenes of one picture size.

    Args:
        side: pixels of the square pictures.
    """

    def __init__(self, side: int = SIDE):
        self.side = side
        self.sprite = lru_cache(None)(self._sprite)
        self.ground = lru_cache(None)(self._ground)
        self.texture = lru_cache(None)(self._texture)

    def draw(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """Draws a scene.

        Returns:
            the picture, uint8 of shape (side, side, 3), and the owner of each pixel, uint8 of shape
            (side, side): i + 1 where `scene.placed[i]` covers at least half of it, else 0.
        """
        side, light = self.side, scene.light
        ground = self.ground(scene.ground, light % VARIANTS, bool(light & 4))
        top, left = (light >> 4) % side, (light >> 12) % side
        picture = ground[top : top + side, left : left + side].astype(np.float32)
        owner = np.zeros((side, side), np.uint8)
        for i, placed in enumerate(scene.placed):
            self._lay(picture, owner, placed, i + 1, (light >> 3 * i) & 0xFFFF)
        picture *= 0.86 + 0.24 * ((light >> 20) % 256) / 255
        return np.clip(picture, 0, 255, out=picture).astype(np.uint8), owner

    def _lay(
        self, picture: np.ndarray, owner: np.ndarray, placed: Placed, number: int, light: int
    ) -> None:
        sprite = self.sprite(placed.thing, placed.extent, placed.angle)
        height, width = sprite.main.shape[:2]
        top = round(placed.y * self.side - height / 2)
        left = round(placed.x * self.side - width / 2)
        rows = slice(max(top, 0), min(top + height, self.side))
        columns = slice(max(left, 0), min(left + width, self.side))
        inside = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        main, shade, fixed, ground = (
            (array[:, ::-1] if placed.mirrored else array)[inside] for array in sprite
        )
        tone = 0.9 + 0.2 * (light % 17) / 16
        colour = np.array(COLOURS[placed.colour], np.float32) * tone
        target = picture[rows, columns]
        target *= ground
        target += fixed
        target += shade * (_SHADE * colour)
        if placed.texture == "plain":
            target += main * colour
        else:
            pattern = self.texture(placed.texture, light % 2)
            y, x = light % 31, light // 31 % 31
            pattern = pattern[y : y + main.shape[0], x : x + main.shape[1]]
            # the pattern is brighter than the colour, and darker than white
            other = 0.2 * colour + 200 if placed.colour != "white" else colour * 0.45
            target += main * (colour + pattern * (other - colour))
        owner[rows, columns][ground[..., 0] < 0.5] = number

    def _sprite(self, thing: str, extent: float, angle: int) -> Sprite:
        radius = extent * self.side / 2
        half = math.ceil(radius * 1.3) + 2
        full = 2 * half * _FINE
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        painted = Image.new("L", (full, full), 0)
        pen = ImageDraw.Draw(painted)
        for part in THINGS[thing]:
            points = [
                (
                    full / 2 + _FINE * radius * (x * cos - y * sin),
                    full / 2 + _FINE * radius * (x * sin + y * cos),
                )
                for x, y in part.outline
            ]
            pen.polygon(points, fill=1 + _PAINTS.index(part.paint))
        rim = 2 * round(_OUTLINE * self.side * _FINE) + 1
        spread = painted.point(lambda value: 255 * (value > 0)).filter(ImageFilter.MaxFilter(rim))
        paints = np.asarray(painted).copy()
        paints[(paints == 0) & (np.asarray(spread) > 0)] = 1 + _PAINTS.index("dark")

        def share(which: int) -> np.ndarray:
            cells = (paints == which).reshape(2 * half, _FINE, 2 * half, _FINE)
            return cells.mean((1, 3), dtype=np.float32)[..., None]

        fixed = sum(
            share(1 + _PAINTS.index(paint)) * np.array(rgb, np.float32)
            for paint, rgb in FIXED.items()
        )
        return Sprite(share(1), share(2), fixed, share(0))

    def _ground(self, name: str, variant: int, mirrored: bool) -> np.ndarray:
        if name not in GROUNDS:
            raise ValueError(f"there is no ground called '{name}'")
        texture = paint_ground(name, self.side, variant)
        return texture[:, ::-1] if mirrored else texture

    def _texture(self, name: str, variant: int) -> np.ndarray:
        """Where a texture has its second tone: float32 of shape (2 side, 2 side, 1), in [0, 1]."""
        if name not in TEXTURES:
            raise ValueError(f"there is no texture called '{name}'")
        y, x = np.mgrid[: 8 * self.side, : 8 * self.side] * (16 / self.side)  # 64 to a picture
        if name == "striped":
            across = x if variant else (x + y) / math.sqrt(2)
            pattern = across % 6 < 2.6
        elif name == "dotted":
            shift = 3.5 * (y // 7 % 2)
            pattern = np.hypot((x + shift) % 7 - 3.5, y % 7 - 3.5) < 2.1
        else:
            cell = 4.5 if variant else 5.5
            pattern = (x // cell + y // cell) % 2 < 1
        cells = pattern.reshape(2 * self.side, 4, 2 * self.side, 4)
        return cells.mean((1, 3), dtype=np.float32)[..., None]
