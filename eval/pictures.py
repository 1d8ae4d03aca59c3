"""Pictures of segmentations: classes in colour over the image with a legend, and heat maps."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.confusion import IGNORE

OPACITY = 0.6
FONT_SIZE = 15
MARGIN = 10
INK, PAPER = (20, 20, 20), (255, 255, 255)
_UNSEEN = (120, 120, 120)  # pixels that count for nothing


def palette(count: int) -> np.ndarray:
    """Colours that neighbours in the list share little of: uint8 of shape (count, 3)."""
    colours = []
    for number in range(count):
        hue = number * 0.618033988749895 % 1  # the golden ratio never comes round
        value, saturation = 1 - 0.16 * (number % 3), 1 - 0.22 * (number // 3 % 3)
        colours.append(colorsys.hsv_to_rgb(hue, saturation, value))
    return (np.array(colours).reshape(-1, 3) * 255).round().astype(np.uint8)


def overlay(image: Image.Image, labels: np.ndarray, background: bool) -> Image.Image:
    """Classes in colour over a grey image; the background stays as it is.

    Args:
        image: RGB.
        labels: classes or `IGNORE`, of shape (height, width).
        background: whether class 0 is one.
    """
    grey = np.array(image.convert("L").convert("RGB"), np.float32)
    colours = palette(max(int(labels.max()), 0) + 1)[np.maximum(labels, 0)].astype(np.float32)
    colours[labels == IGNORE] = _UNSEEN
    opacity = np.full(labels.shape, OPACITY, np.float32)
    if background:
        opacity[labels == 0] = 0
    mixed = grey + (colours - grey) * opacity[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8))


def legend_entries(labels: Sequence[np.ndarray], most: int = 24) -> list[int]:
    """The classes in several maps, those with the most pixels first."""
    counts: dict[int, int] = {}
    for one in labels:
        for number, pixels in zip(*np.unique(one, return_counts=True), strict=True):
            if number != IGNORE:
                counts[int(number)] = counts.get(int(number), 0) + int(pixels)
    return sorted(counts, key=lambda number: -counts[number])[:most]


def legend(
    entries: Sequence[int], names: Sequence[str], width: int, background: bool
) -> Image.Image:
    """Names beside their colours, in as many lines as the width needs.

    Args:
        entries: classes.
        names: of all classes.
        width: pixels.
        background: whether class 0 is one; it has no colour.
    """
    font = _font()
    colours = palette(len(names))
    box, line = FONT_SIZE, FONT_SIZE + 8
    places, x, y = [], MARGIN, MARGIN
    for entry in entries:
        length = box + 6 + font.getlength(names[entry]) + 16
        if x > MARGIN and x + length > width - MARGIN:
            x, y = MARGIN, y + line
        places.append((x, y))
        x += int(length)
    sheet = Image.new("RGB", (width, y + line + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    for entry, (x, y) in zip(entries, places, strict=True):
        if background and entry == 0:
            fill = PAPER
        else:  # as it looks over a middle grey
            fill = tuple((colours[entry] * OPACITY + 128 * (1 - OPACITY)).astype(int))
        draw.rectangle((x, y, x + box, y + box), fill=fill, outline=INK)
        draw.text((x + box + 6, y - 1), names[entry], INK, font)
    return sheet


def heat_map(image: Image.Image, values: np.ndarray) -> Image.Image:
    """Values from their least (blue) to their greatest (red) over a grey image.

    Args:
        image: RGB.
        values: floats of shape (height, width).
    """
    low, high = float(values.min()), float(values.max())
    shares = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = matplotlib.colormaps["turbo"](shares)[..., :3] * 255
    grey = np.array(image.convert("L").convert("RGB"), np.float32)
    return Image.fromarray((grey * 0.4 + colours * 0.6).round().astype(np.uint8))


def grid(rows: Sequence[Sequence[Image.Image]], captions: Sequence[Sequence[str]]) -> Image.Image:
    """Pictures of one size in rows, each with a caption above it.

    Args:
        rows: pictures; all of the same size.
        captions: one for each; too long ones are cut off at their picture's width.
    """
    font = _font()
    width, height = rows[0][0].size
    step = height + FONT_SIZE + 2 * MARGIN
    sheet = Image.new(
        "RGB",
        (len(rows[0]) * (width + MARGIN) + MARGIN, len(rows) * step + MARGIN),
        PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    for down, (pictures, texts) in enumerate(zip(rows, captions, strict=True)):
        for across, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            x, y = MARGIN + across * (width + MARGIN), MARGIN + down * step
            while text and font.getlength(text) > width:
                text = text[:-2] + "…" if len(text) > 2 else ""
            draw.text((x, y), text, INK, font)
            sheet.paste(picture, (x, y + FONT_SIZE + MARGIN // 2 + 3))
    return sheet


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other on white."""
    width = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)), PAPER)
    y = 0
    for picture in pictures:
        sheet.paste(picture, (0, y))
        y += picture.height
    return sheet


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(FONT_SIZE)
