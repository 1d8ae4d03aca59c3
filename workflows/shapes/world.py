"""The words of the small world, and scenes drawn from them at random."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from workflows.shapes.things import THINGS

NAMES = tuple(THINGS)  # class i + 1 of the segmentation benchmark is NAMES[i]
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 44, 40),
    "orange": (242, 138, 28),
    "yellow": (246, 218, 62),
    "green": (52, 164, 72),
    "blue": (44, 94, 216),
    "purple": (136, 64, 182),
    "pink": (246, 142, 188),
    "white": (244, 244, 246),
}
SIZES: dict[str, tuple[float, float]] = {  # of the canvas, smallest and largest
    "small": (0.26, 0.32),
    "medium": (0.37, 0.45),
    "large": (0.52, 0.64),
}
TEXTURES = ("plain", "striped", "dotted", "checked")
GROUNDS = ("grass", "sand", "snow", "sky", "wood", "brick", "water", "carpet")
SCALES = 3  # sizes that a word such as `small` stands for
ANGLES = tuple(range(-24, 25, 8))
_TRIES = 24


@dataclass(frozen=True)
class Placed:
    """One thing in a scene.

    Attributes:
        thing, colour, size, texture: words of `NAMES`, `COLOURS`, `SIZES` and `TEXTURES`.
        x, y: its middle, in [0, 1] of the canvas.
        extent: its width or height, whichever is larger, as a share of the canvas.
        angle: degrees clockwise, one of `ANGLES`.
        mirrored: left and right changed.
    """

    thing: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    extent: float
    angle: int
    mirrored: bool


@dataclass(frozen=True)
class Scene:
    """A ground and one to four things on it; later ones cover earlier ones.

    Attributes:
        ground: one of `GROUNDS`.
        placed: the things.
        light: seed of what the painter varies: the part of the ground, brightness, tones.
    """

    ground: str
    placed: tuple[Placed, ...]
    light: int


@dataclass(frozen=True)
class Choice:
    """What scenes are drawn from; the defaults are the whole world.

    Attributes:
        counts: how many things a scene has; a number listed twice is twice as likely.
        things, colours, sizes, textures, grounds: what is chosen among, in the same way.
    """

    counts: Sequence[int] = (1, 2, 2, 3, 3, 4)
    things: Sequence[str] = NAMES
    colours: Sequence[str] = tuple(COLOURS)
    sizes: Sequence[str] = ("small", "medium", "medium", "large")
    textures: Sequence[str] = ("plain",) * 4 + TEXTURES[1:]
    grounds: Sequence[str] = GROUNDS


def draw_scene(rng: random.Random, choice: Choice = Choice()) -> Scene:
    """A scene at random.

    Things do not overlap where there is room, and cover each other in part where there is none.

    Args:
        rng: the source of all randomness.
        choice: what is chosen among.
    """
    ground = rng.choice(choice.grounds)
    placed: list[Placed] = []
    for _ in range(rng.choice(choice.counts)):
        size = rng.choice(choice.sizes)
        low, high = SIZES[size]
        extent = low + (high - low) * rng.randrange(SCALES) / (SCALES - 1)
        x, y = _place(rng, placed, extent)
        placed.append(
            Placed(
                thing=rng.choice(choice.things),
                colour=rng.choice(choice.colours),
                size=size,
                texture=rng.choice(choice.textures),
                x=x,
                y=y,
                extent=extent,
                angle=rng.choice(ANGLES),
                mirrored=rng.random() < 0.5,
            )
        )
    return Scene(ground, tuple(placed), rng.getrandbits(32))


def _place(rng: random.Random, others: Sequence[Placed], extent: float) -> tuple[float, float]:
    """The first of some random places that is clear of the others, or the one least covered."""
    margin = 0.42 * extent
    best, place = -math.inf, (0.5, 0.5)
    for _ in range(_TRIES):
        x, y = rng.uniform(margin, 1 - margin), rng.uniform(margin, 1 - margin)
        room = min(
            (math.hypot(x - o.x, y - o.y) - 0.42 * (extent + o.extent) for o in others), default=1
        )
        if room >= 0:
            return x, y
        if room > best:
            best, place = room, (x, y)
    return place
