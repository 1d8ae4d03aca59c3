"""The ten segmentation benchmarks of the paper's Table 1, by the names that --benchmarks takes."""

from __future__ import annotations

from pathlib import Path

from eval.benchmarks import Benchmark, Description
from eval.coco_object import CocoObject
from eval.mask_folders import Ade20k, Cityscapes, CocoStuff, Context, ImageNetS, Voc
from parsing.errors import UserError

BENCHMARKS: dict[str, type[Benchmark]] = {
    "voc": Voc,
    "voc20": Voc,
    "context": Context,
    "context59": Context,
    "coco_object": CocoObject,
    "coco_stuff": CocoStuff,
    "cityscapes": Cityscapes,
    "ade20k": Ade20k,
    "imagenet_s50": ImageNetS,
    "imagenet_s300": ImageNetS,
}


def open_benchmark(name: str, root: Path) -> Benchmark:
    """A benchmark, its folder checked.

    Raises:
        UserError: no such benchmark, or its folder is missing or half there.
    """
    if name not in BENCHMARKS:
        raise UserError(f"there is no benchmark '{name}': choose from {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name](Description.read(name), root)
