"""Scores a run, or untrained CLIP, on the paper's segmentation benchmarks.

python eval/segment.py --run data/runs/tagalign --benchmarks voc,context59,coco_object --data ~/data
python eval/segment.py --run clip --benchmarks coco_object --data ~/data/coco
torchrun --nproc-per-node 8 -- eval/segment.py --run data/runs/tagalign --benchmarks ade20k --data ~/data
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `eval` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.storage import Folder
from eval.inference.settings import Inference
from eval.segmentation import Settings, complaint, earlier_results, evaluate
from eval.segmentation_report import class_table, markdown

TABLE = "table.md"


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that name CLIP's weights."""
    group = parser.add_argument_group("model (default: the run's own; the paper's for baselines)")
    group.add_argument("--model", help="open_clip name, hf-hub:ORG/REPO, or a saved model's folder")
    group.add_argument("--weights", help="open_clip's name of the weights, or a local file")
    group.add_argument("--quick-gelu", action=argparse.BooleanOptionalAction)


def add_inference_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each field of `Inference`, with its default."""
    group = parser.add_argument_group("inference")
    helps = {
        "clip_weight": "weight of CLIP's own map, Eq. 7; 0 leaves it out",
        "blend": "what Eq. 7 is of: similarity (the paper) or probability (its authors' code)",
        "probability": "Eq. 8: softmax or sigmoid",
        "scale": "of Eq. 8 (default: 30 for softmax, 10 for sigmoid)",
        "bias": "of Eq. 8's sigmoid form",
        "threshold": "below which a pixel is background (default: the benchmark's; sigmoid 0.4)",
        "templates": "sentences that class names are put in: photo, imagenet or bare",
        "size": "pixels of the shorter side; 0 keeps images as they are",
        "window": "pixels of the sliding window; 0 shows the whole image at once",
        "stride": "pixels between windows",
        "pamr": "refine by the image's edges",
        "batch": "windows that the encoder sees at once",
    }
    for one in fields(Inference):
        flag = "--" + one.name.replace("_", "-")
        if one.name == "pamr":
            group.add_argument(flag, action="store_true", help=helps[one.name])
            continue
        kind = float if one.default is None else type(one.default)
        text = helps[one.name] + ("" if one.default is None else " (default: %(default)s)")
        group.add_argument(flag, type=kind, default=one.default, help=text)


def inference_of(values: dict[str, object]) -> Inference:
    """Takes the fields of `Inference` out of parsed flags."""
    return Inference(**{one.name: values.pop(one.name) for one in fields(Inference)})


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Flags to settings.

    Raises:
        UserError: a setting that cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = {one.name: one.default for one in fields(Settings)}
    parser.add_argument(
        "--run",
        required=True,
        action="append",
        dest="runs",
        help="a run's folder; or clip, surgery, maskclip; may be given again",
    )
    parser.add_argument(
        "--benchmarks", required=True, help="names, or folders of your own, divided by commas"
    )
    parser.add_argument(
        "--data", default=".", help="folder that holds the data sets (default: this one)"
    )
    parser.add_argument("--out", default=default["out"], help="(default: %(default)s)")
    parser.add_argument("--name", help="of the run in tables (default: its folder's)")
    parser.add_argument("--cache", default=default["cache"], help="folder for embeddings")
    parser.add_argument("--limit", type=int, help="only the first images of each benchmark")
    parser.add_argument(
        "--overlays", type=int, default=default["overlays"], help="images to draw (default: 8)"
    )
    parser.add_argument(
        "--workers", type=int, default=default["workers"], help="threads that read images"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="lose results of other settings in --out"
    )
    add_model_flags(parser)
    add_inference_flags(parser)
    values = vars(parser.parse_args(arguments))
    values["benchmarks"] = tuple(n.strip() for n in values["benchmarks"].split(",") if n.strip())
    values["runs"] = tuple(values["runs"])
    inference = inference_of(values)
    return Settings(**values, inference=inference)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        settings = parse(arguments)
        results = evaluate(settings)
        if os.environ.get("RANK", "0") != "0":
            return 0
        rows = markdown([*earlier_results(settings), *results])
        folder = Folder(settings.out)
        folder.write(TABLE, rows.encode())
        for result in results:
            print(f"{result.run}\n\n{class_table(result)}\n")
        print(rows)
        print(f"results, per image and as JSON, and overlays are in {folder.url}")
        if problem := complaint(results, folder.url):
            raise UserError(problem)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
