"""Images of a benchmark with their true and their predicted classes, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from eval.benchmarks import BadImage, Benchmark
from eval.pictures import grid, legend, legend_entries, overlay, stack
from parsing.storage import Folder


class Labeller(Protocol):
    """What is scored: `Segmenter`, or anything else that gives pixels classes."""

    def label_maps(self, images: Sequence[Image.Image]) -> list[np.ndarray]: ...


def draw_overlays(labeller: Labeller, benchmark: Benchmark, folder: Folder, count: int) -> None:
    """The first images of a benchmark with their true and their predicted classes, as PNG."""
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
    """Writes a PNG whole.

    Raises:
        UserError: no room or no permission.
    """
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    folder.write(name, sink.getvalue())
