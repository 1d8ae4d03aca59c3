"""Draws similarity maps and segmentations of one image by CLIP and trained runs (Figure 5).

    python eval/show.py --run data/runs/tagalign --image cat.jpg --text cat "brown cat" grass
    python eval/show.py --run data/runs/tagalign --serve        # a page to try pictures and words

Writes `maps.png`, the similarity map of each text by CLIP and by each run; `overlay.png`, which colours
each pixel by its text; and for each model `MODEL.mask.png`, whose pixels are the numbers of the texts.
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
from eval.any_words import Rule, file_name, mask, segment
from eval.datasets.benchmarks import BACKGROUND, BadImage, open_image
from eval.demo import serve
from eval.inference.protocols import normalisation_for
from eval.pictures import grid, heat_map, legend, legend_entries, overlay, save_picture, stack
from eval.settings import ShowSettings, parse_flags, run_label
from training.dense import Dense, load_dense

MAPS, OVERLAY, MASK = "maps.png", "overlay.png", ".mask.png"
LONGEST = 640  # maximum of the longer side of the drawn image in pixels


def show(settings: ShowSettings) -> tuple[Folder, tuple[str, ...]]:
    """Draws the pictures.

    Returns:
        their folder, and what the numbers of the masks mean.

    Raises:
        UserError: the image is damaged, the threshold cannot act; or as `load_dense` and `Segmenter`.
    """
    try:
        image = open_image(Path(settings.image))
    except BadImage as error:
        raise UserError(f"{settings.image}: {error}") from error
    image.thumbnail((LONGEST, LONGEST))
    rule = Rule.of(settings.inference, settings.texts)
    found = [
        (name, segment(dense, image, settings.texts, settings.inference, rule))
        for name, dense in load_models(settings)
    ]
    columns = [(name, one.similarities) for name, one in found]  # (texts, height, width) each
    overlays = [one.labels for _, one in found]
    with_background = rule.has_background
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
    files: list[str] = []
    for name, one in found:
        file = file_name(name)
        files.append(f"{file}-{files.count(file) + 1}" if file in files else file)
        save_picture(mask(one.labels, names, with_background), folder, f"{files[-1]}{MASK}")
    return folder, names


def load_models(settings: ShowSettings) -> list[tuple[str, Dense]]:
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
        settings = parse(arguments)
        if settings.serve:
            serve(load_models(settings), settings.inference, settings.port)
            return 0
        folder, names = show(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{folder.path(MAPS)}\n{folder.path(OVERLAY)}\n{folder.path('*' + MASK)}")
    print(f"in the masks: {', '.join(f'{n} {name}' for n, name in enumerate(names))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
