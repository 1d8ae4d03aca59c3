"""Pictures of segmentations: class overlays with a legend, heat maps, and grids of them.

Shapes: H, W height and width of an image in pixels.
"""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.storage import Folder
from eval.confusion import IGNORE
from eval.datasets.benchmarks import BadImage, Benchmark
from eval.inference.segmenter import Labeller

OPACITY = 0.6
FONT_SIZE = 15
MARGIN = 10
INK, PAPER = (20, 20, 20), (255, 255, 255)
_IGNORED = (120, 120, 120)  # pixels that are not scored


def palette(count: int) -> np.ndarray:
    """Distinct colours, uint8 of shape (count, 3); consecutive ones differ strongly in hue."""
    colours = []
    for number in range(count):
        hue = number * 0.618033988749895 % 1  # multiples of the golden ratio never repeat a hue
        value, saturation = 1 - 0.16 * (number % 3), 1 - 0.22 * (number // 3 % 3)
        colours.append(colorsys.hsv_to_rgb(hue, saturation, value))
    return (np.array(colours).reshape(-1, 3) * 255).round().astype(np.uint8)


def overlay(image: Image.Image, labels: np.ndarray, background: bool) -> Image.Image:
    """Draws classes in colour over a grey image; the background stays uncoloured.

    Args:
        image: RGB, W x H pixels.
        labels: classes or `IGNORE`, integers of shape (H, W).
        background: whether class 0 is the background.
    """
    grey = np.array(image.convert("L").convert("RGB"), np.float32)  # (H, W, 3)
    colours = palette(max(int(labels.max()), 0) + 1)[np.maximum(labels, 0)].astype(np.float32)
    colours[labels == IGNORE] = _IGNORED
    opacity = np.full(labels.shape, OPACITY, np.float32)
    if background:
        opacity[labels == 0] = 0
    mixed = grey + (colours - grey) * opacity[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8))


def legend_entries(labels: Sequence[np.ndarray], most: int = 24) -> list[int]:
    """Classes that several label maps contain, those with the most pixels first.

    Args:
        labels: integers of shape (H, W) each; `IGNORE` is left out.
        most: maximum number of classes.
    """
    counts: dict[int, int] = {}
    for one in labels:
        for number, pixels in zip(*np.unique(one, return_counts=True), strict=True):
            if number != IGNORE:
                counts[int(number)] = counts.get(int(number), 0) + int(pixels)
    return sorted(counts, key=lambda number: -counts[number])[:most]


def legend(
    entries: Sequence[int], names: Sequence[str], width: int, background: bool
) -> Image.Image:
    """Draws class names beside their colours, wrapped at the width.

    Args:
        entries: classes to list.
        names: names of all classes, by class.
        width: width of the picture in pixels.
        background: whether class 0 is the background, which has no colour.
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
        else:  # the overlay's colour over middle grey
            fill = tuple((colours[entry] * OPACITY + 128 * (1 - OPACITY)).astype(int))
        draw.rectangle((x, y, x + box, y + box), fill=fill, outline=INK)
        draw.text((x + box + 6, y - 1), names[entry], INK, font)
    return sheet


def heat_map(image: Image.Image, values: np.ndarray) -> Image.Image:
    """Draws values over a grey image, from the minimum (blue) to the maximum (red).

    Args:
        image: RGB, W x H pixels.
        values: floats of shape (H, W).
    """
    low, high = float(values.min()), float(values.max())
    shares = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = matplotlib.colormaps["turbo"](shares)[..., :3] * 255  # (H, W, 3)
    grey = np.array(image.convert("L").convert("RGB"), np.float32)
    return Image.fromarray((grey * 0.4 + colours * 0.6).round().astype(np.uint8))


def grid(rows: Sequence[Sequence[Image.Image]], captions: Sequence[Sequence[str]]) -> Image.Image:
    """Arranges pictures in a grid, each below its caption.

    Args:
        rows: pictures by row; all have the same size.
        captions: one caption per picture; long captions are truncated to the picture's width.
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
    """Stacks pictures vertically on white."""
    width = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)), PAPER)
    y = 0
    for picture in pictures:
        sheet.paste(picture, (0, y))
        y += picture.height
    return sheet


def draw_overlays(labeller: Labeller, benchmark: Benchmark, folder: Folder, count: int) -> None:
    """Writes the first images of a benchmark with their true and predicted classes, one PNG each.

    Images that cannot be scored are skipped.

    Args:
        labeller: predicts the classes.
        benchmark: the images and the ground truth.
        folder: where the files `KEY.png` go.
        count: number of images.

    Raises:
        UserError: a file cannot be written.
    """
    about = benchmark.description
    for key in list(benchmark.keys)[:count]:
        try:
            image, truth = benchmark.image(key), benchmark.truth(key)
        except BadImage:
            continue
        predicted = labeller.label_maps([image])[0]
        if truth.shape != predicted.shape:
            continue
        pictures = [image, *(overlay(image, one, about.background) for one in (truth, predicted))]
        sheet = grid([pictures], [["image", "truth", "predicted"]])
        entries = legend_entries([truth, predicted])
        names = legend(entries, benchmark.class_names, sheet.width, about.background)
        folder.make()
        save_picture(stack([sheet, names]), folder, f"{key.replace('/', '_')}.png")


def save_picture(picture: Image.Image, folder: Folder, name: str) -> None:
    """Writes a picture as PNG, atomically.

    Raises:
        UserError: the disk is full or the folder is not writable.
    """
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    folder.write(name, sink.getvalue())


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(FONT_SIZE)
