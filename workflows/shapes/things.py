"""Outlines of the things: filled polygons on a square from -1 to 1, x to the right and y down.

`MAIN` is painted in the thing's colour and texture, `SHADE` in a darker tone of the colour. The other paints
are fixed: every thing has details that do not depend on its colour.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

MAIN, SHADE = "main", "shade"
FIXED = {
    "dark": (38, 34, 44),
    "white": (246, 246, 242),
    "wood": (118, 78, 44),
    "glass": (168, 214, 240),
    "gold": (246, 200, 70),
    "leaf": (60, 130, 58),
}
Point = tuple[float, float]


class Part(NamedTuple):
    """One filled outline; later parts cover earlier ones."""

    paint: str
    outline: tuple[Point, ...]


def shape(paint: str, *points: Point) -> Part:
    return Part(paint, points)


def box(paint: str, left: float, top: float, right: float, bottom: float) -> Part:
    return Part(paint, ((left, top), (right, top), (right, bottom), (left, bottom)))


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Points from one angle to another, in degrees clockwise from the right."""
    steps = max(3, round(abs(end - start) / 12))
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def oval(paint: str, x: float, y: float, rx: float, ry: float | None = None) -> Part:
    return Part(paint, tuple(arc(x, y, rx, rx if ry is None else ry, 0, 360)))


def line(paint: str, width: float, *points: Point) -> list[Part]:
    """A stroke, made of a bar for each piece and a disc at each bend."""
    parts = []
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        nx, ny = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
        corners = ((x0, y0, 1), (x1, y1, 1), (x1, y1, -1), (x0, y0, -1))
        parts.append(shape(paint, *((x + side * nx, y + side * ny) for x, y, side in corners)))
    return parts + [oval(paint, x, y, width / 2) for x, y in points[1:-1]]


def _star(outer: float, inner: float) -> list[Point]:
    tips = [((outer, inner)[i % 2], i * math.pi / 5) for i in range(10)]
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for radius, angle in tips]


def _petals() -> list[Part]:
    around = [i * math.pi / 3 + 0.3 for i in range(6)]
    return [oval(MAIN, 0.44 * math.cos(a), -0.36 + 0.44 * math.sin(a), 0.27) for a in around] + [
        oval("gold", 0, -0.36, 0.25)
    ]


THINGS: dict[str, tuple[Part, ...]] = {
    "ball": (
        oval(MAIN, 0, 0, 0.95),
        *line("dark", 0.11, (0, -0.95), (0, 0.95)),
        *line("dark", 0.11, (-0.95, 0), (0.95, 0)),
        *line("dark", 0.11, *arc(-1.1, 0, 0.68, 0.82, -58, 58)),
        *line("dark", 0.11, *arc(1.1, 0, 0.68, 0.82, 122, 238)),
    ),
    "house": (
        box("dark", 0.4, -0.85, 0.62, -0.2),
        box(MAIN, -0.75, -0.12, 0.75, 0.95),
        shape(SHADE, (-1, -0.08), (0, -0.95), (1, -0.08)),
        box("wood", -0.16, 0.32, 0.2, 0.95),
        box("glass", -0.6, 0.12, -0.3, 0.45),
        box("glass", 0.34, 0.12, 0.62, 0.45),
    ),
    "tree": (
        box("wood", -0.16, 0.2, 0.16, 1),
        oval(MAIN, -0.42, 0.02, 0.46, 0.44),
        oval(MAIN, 0.42, 0.02, 0.46, 0.44),
        oval(MAIN, 0, -0.46, 0.54, 0.5),
        oval(SHADE, -0.3, 0.1, 0.13),
        oval(SHADE, 0.32, -0.04, 0.13),
        oval(SHADE, -0.05, -0.5, 0.13),
    ),
    "fish": (
        shape(SHADE, (-0.2, -0.35), (0.15, -0.75), (0.35, -0.3)),
        shape(MAIN, (0.4, 0), (1, -0.52), (0.84, 0), (1, 0.52)),
        oval(MAIN, -0.16, 0, 0.8, 0.48),
        *line(SHADE, 0.1, *arc(-0.62, 0, 0.3, 0.42, -62, 62)),
        shape(SHADE, (-0.05, 0.08), (0.3, 0.3), (0.28, -0.02)),
        oval("white", -0.62, -0.12, 0.16),
        oval("dark", -0.64, -0.12, 0.08),
    ),
    "cup": (
        *line(MAIN, 0.2, *arc(0.38, 0.05, 0.48, 0.42, -95, 95)),
        shape(MAIN, (-0.8, -0.62), (0.5, -0.62), (0.36, 0.85), (-0.66, 0.85)),
        oval("white", -0.15, -0.62, 0.66, 0.2),
        oval("wood", -0.15, -0.6, 0.53, 0.13),
    ),
    "star": (
        shape(MAIN, *_star(1, 0.45)),
        *(p for tip in _star(0.8, 0.45)[::2] for p in line(SHADE, 0.1, (0, 0), tip)),
    ),
    "car": (
        shape(MAIN, (-1, 0.05), (-0.6, -0.06), (-0.36, -0.5), (0.4, -0.5), (0.66, -0.06), (1, 0.02),
              (1, 0.4), (-1, 0.4)),
        shape("glass", (-0.46, -0.06), (-0.28, -0.4), (-0.04, -0.4), (-0.04, -0.06)),
        shape("glass", (0.08, -0.06), (0.08, -0.4), (0.34, -0.4), (0.5, -0.06)),
        box("gold", -1, 0.1, -0.84, 0.24),
        oval("dark", -0.54, 0.42, 0.27), oval("white", -0.54, 0.42, 0.11),
        oval("dark", 0.54, 0.42, 0.27), oval("white", 0.54, 0.42, 0.11),
    ),
    "umbrella": (
        *line("dark", 0.1, (0, 0), (0, 0.78), *arc(0.16, 0.78, 0.16, 0.17, 180, 0)),
        shape(MAIN, *arc(0, 0.12, 0.98, 1.02, 180, 360),
              *arc(0.66, 0.12, 0.32, 0.2, 0, -180)[1:], *arc(0, 0.12, 0.34, 0.2, 0, -180)[1:],
              *arc(-0.66, 0.12, 0.32, 0.2, 0, -180)[1:]),
        *line(SHADE, 0.09, (0, -0.9), (-0.22, -0.5), (-0.33, 0.08)),
        *line(SHADE, 0.09, (0, -0.9), (0.22, -0.5), (0.33, 0.08)),
    ),
    "mushroom": (
        shape("white", (-0.26, 0), (0.26, 0), (0.36, 0.95), (-0.36, 0.95)),
        shape(MAIN, *arc(0, 0.12, 0.96, 1.0, 180, 360)),
        oval("white", -0.48, -0.26, 0.15), oval("white", 0.02, -0.56, 0.16),
        oval("white", 0.5, -0.22, 0.15),
    ),
    "boat": (
        *line("wood", 0.11, (0, 0.4), (0, -0.98)),
        shape("white", (0.1, -0.92), (0.85, 0.22), (0.1, 0.22)),
        shape(SHADE, (-0.1, -0.6), (-0.1, 0.22), (-0.65, 0.22)),
        shape(MAIN, (-1, 0.34), (1, 0.34), (0.62, 0.92), (-0.62, 0.92)),
    ),
    "key": (
        *line(MAIN, 0.28, (-0.15, 0), (0.98, 0)),
        *line(MAIN, 0.24, (0.5, 0), (0.5, 0.42)),
        *line(MAIN, 0.24, (0.84, 0), (0.84, 0.5)),
        *line(MAIN, 0.28, *arc(-0.55, 0, 0.34, 0.38, 0, 360), (-0.21, 0)),
    ),
    "flower": (
        *line("leaf", 0.13, (0, 0), (0, 1)),
        shape("leaf", (0, 0.85), (0.16, 0.48), (0.55, 0.4), (0.36, 0.74)),
        *_petals(),
    ),
    "hat": (
        oval(MAIN, 0, 0.5, 1, 0.26),
        shape(MAIN, (-0.58, 0.46), (-0.52, -0.55), (-0.25, -0.72), (0.25, -0.72), (0.52, -0.55),
              (0.58, 0.46)),
        shape("dark", (-0.58, 0.46), (-0.56, 0.12), (0.56, 0.12), (0.58, 0.46)),
    ),
    "ladder": (
        *(p for y in (-0.72, -0.36, 0, 0.36, 0.72) for p in line(SHADE, 0.15, (-0.4, y), (0.4, y))),
        *line(MAIN, 0.2, (-0.36, -1), (-0.5, 1)),
        *line(MAIN, 0.2, (0.36, -1), (0.5, 1)),
    ),
}  # fmt: skip
