"""Draws similarity maps and segmentations of one image by CLIP and trained runs (Figure 5).

    python eval/show.py --run data/runs/tagalign --image cat.jpg --text "cat" "brown cat"

Writes two pictures: `maps.png`, the similarity map of each text by CLIP and by each run, and
`overlay.png`, which colours each pixel by its most similar text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    # Imports start at the repository, so that nothing needs to be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from common.errors import UserError
from common.storage import Folder
from eval.datasets.benchmarks import BACKGROUND, BadImage, open_image
from eval.inference.class_embeddings import class_embeddings
from eval.inference.protocols import normalisation_for
from eval.inference.segmenter import Segmenter
from eval.pictures import grid, heat_map, legend, legend_entries, overlay, save_picture, stack
from eval.settings import ShowSettings, parse_flags, run_label
from training.dense import Dense, load_dense

MAPS, OVERLAY = "maps.png", "overlay.png"
LONGEST = 640  # maximum of the longer side of the drawn image in pixels


def show(settings: ShowSettings) -> Folder:
    """Draws both pictures and returns their folder.

    Raises:
        UserError: the image is damaged, the threshold cannot act; or as `load_dense` and `Segmenter`.
    """
    try:
        image = open_image(Path(settings.image))
    except BadImage as error:
        raise UserError(f"{settings.image}: {error}") from error
    image.thumbnail((LONGEST, LONGEST))
    with_background = settings.inference.threshold is not None
    if with_background:
        settings.inference.check_threshold(settings.inference.threshold, len(settings.texts))
    models = _models(settings)
    columns, overlays = [], []
    for name, dense in models:
        embeddings = class_embeddings(dense, settings.texts, settings.inference.templates)
        segmenter = Segmenter(dense, embeddings, settings.inference, settings.inference.threshold)
        columns.append((name, segmenter.similarities(image)))  # (texts, height, width)
        overlays.append(segmenter.label_maps([image])[0])
    folder = Folder(settings.out)
    folder.make()
    rows, captions = [], []
    for number, text in enumerate(settings.texts):
        rows.append([image, *(heat_map(image, maps[number]) for _, maps in columns)])
        ranges = [(name, maps[number].min(), maps[number].max()) for name, maps in columns]
        captions.append([text, *(f"{n}: {low:.3f} to {high:.3f}" for n, low, high in ranges)])
    save_picture(grid(rows, captions), folder, MAPS)
    names = (*((BACKGROUND,) if with_background else ()), *settings.texts)
    pictures = [image, *(overlay(image, labels, with_background) for labels in overlays)]
    sheet = grid([pictures], [["image", *(name for name, _ in columns)]])
    entries = legend_entries(overlays)
    key = legend(entries, names, sheet.width, with_background)
    save_picture(stack([sheet, key]), folder, OVERLAY)
    return folder


def _models(settings: ShowSettings) -> list[tuple[str, Dense]]:
    """The runs by name, and before them CLIP with the weights of the first trained run."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    about = (settings.model, settings.weights, settings.quick_gelu)
    of_pixels = partial(normalisation_for, settings.inference)
    runs = [
        (run_label(run), load_dense(run, device, *about, of_pixels(run))) for run in settings.runs
    ]
    if "clip" in settings.runs:
        return runs
    trained = next((dense.settings for _, dense in runs if dense.settings is not None), None)
    if trained is not None and settings.model is None:
        if trained.model.startswith("groupvit:"):
            return runs  # GroupViT has no CLIP to compare with
        weights = settings.weights or trained.weights
        about = (trained.model, weights, trained.quick_gelu)
    return [("clip", load_dense("clip", device, *about, of_pixels("clip"))), *runs]


def parse(arguments: Sequence[str] | None = None) -> ShowSettings:
    """Settings from the command line.

    Raises:
        UserError: as `ShowSettings` and `Inference`.
    """
    return parse_flags(ShowSettings, __doc__, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    try:
        folder = show(parse(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{folder.path(MAPS)}\n{folder.path(OVERLAY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
