"""Draws what CLIP and trained runs see in one image, as in the paper's Figure 5.

    python eval/show.py --run data/runs/tagalign --image cat.jpg --text "cat" "brown cat"

Two pictures are written: `maps.png`, the similarity map of each text by CLIP and by each run, and
`overlay.png`, where each pixel has the text that fits it best.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `eval` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from common.errors import UserError
from common.storage import Folder
from eval.datasets.benchmarks import BACKGROUND, BadImage, open_image
from eval.inference.class_embeddings import class_embeddings
from eval.inference.segmenter import Segmenter
from eval.inference.settings import Inference
from eval.pictures import grid, heat_map, legend, legend_entries, overlay, save_picture, stack
from eval.segment import add_inference_flags, add_model_flags, inference_of
from training.dense import BASELINES, Dense, load_dense

MAPS, OVERLAY = "maps.png", "overlay.png"
LONGEST = 640  # pixels of a picture's longer side


@dataclass(frozen=True)
class Settings:
    """What to draw.

    Attributes:
        runs: folders of runs, or baselines.
        image: a file.
        texts: class names or phrases.
        inference: how; a threshold gives the overlay a background.
        out: a folder for the two pictures.
        model, weights, quick_gelu: as for `load_dense`.
    """

    runs: tuple[str, ...]
    image: str
    texts: tuple[str, ...]
    inference: Inference = field(default_factory=Inference)
    out: str = "data/show"
    model: str | None = None
    weights: str | None = None
    quick_gelu: bool | None = None

    def __post_init__(self) -> None:
        if any(not text.strip() for text in self.texts):
            raise UserError("an empty --text has no map")
        if not Path(self.image).is_file():
            raise UserError(f"there is no image {self.image}")


def show(settings: Settings) -> Folder:
    """Draws both pictures.

    Raises:
        UserError: see `load_dense` and `Segmenter`; or the image is damaged.
    """
    try:
        image = open_image(Path(settings.image))
    except BadImage as error:
        raise UserError(f"{settings.image}: {error}") from error
    image.thumbnail((LONGEST, LONGEST))
    models = _models(settings)
    columns, overlays = [], []
    with_background = settings.inference.threshold is not None
    for name, dense in models:
        embeddings = class_embeddings(dense, settings.texts, settings.inference.templates)
        segmenter = Segmenter(dense, embeddings, settings.inference, settings.inference.threshold)
        columns.append((name, segmenter.similarities(image)))
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


def _models(settings: Settings) -> list[tuple[str, Dense]]:
    """CLIP itself, by the weights of the first run that was trained on some, and the runs."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    about = (settings.model, settings.weights, settings.quick_gelu)
    runs = [(_name(run), load_dense(run, device, *about)) for run in settings.runs]
    if "clip" in settings.runs:
        return runs
    trained = next((dense.settings for _, dense in runs if dense.settings is not None), None)
    if trained is not None and settings.model is None:
        if trained.model.startswith("groupvit:"):
            return runs  # it has no CLIP to compare with
        weights = settings.weights or trained.weights
        about = (trained.model, weights, trained.quick_gelu)
    return [("clip", load_dense("clip", device, *about)), *runs]


def _name(run: str) -> str:
    return run if run in BASELINES else Path(run).resolve().name


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Flags to settings.

    Raises:
        UserError: a setting that cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", required=True, nargs="+", dest="runs", help="runs' folders; or surgery, maskclip"
    )
    parser.add_argument("--image", required=True)
    parser.add_argument("--text", required=True, nargs="+", dest="texts", help="what to look for")
    parser.add_argument("--out", default="data/show", help="folder (default: %(default)s)")
    add_model_flags(parser)
    add_inference_flags(parser)
    values = vars(parser.parse_args(arguments))
    for name in ("runs", "texts"):
        values[name] = tuple(values[name])
    inference = inference_of(values)
    return Settings(**values, inference=inference)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        folder = show(parse(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{folder.path(MAPS)}\n{folder.path(OVERLAY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
