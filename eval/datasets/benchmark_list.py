"""The ten segmentation benchmarks of the paper's Table 1, by the names that --benchmarks takes.

--benchmarks also takes the path of a folder with a `benchmark.yaml`; see `OwnFolder`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.errors import UserError
from eval.datasets.benchmarks import Benchmark
from eval.datasets.coco_object import CocoObject
from eval.datasets.coco_stuff import CocoObjectMasks, CocoStuff
from eval.datasets.description import Description
from eval.datasets.mask_folders import (
    OWN,
    Ade20k,
    Cityscapes,
    Context,
    ImageNetS,
    OwnFolder,
    Voc,
)

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


def check_name(name: str) -> None:
    """Checks that a name is a key of `BENCHMARKS` or a folder with a `benchmark.yaml`.

    Raises:
        UserError: it is neither.
    """
    if name in BENCHMARKS or (Path(name) / OWN).is_file():
        return
    if Path(name).is_dir():
        raise UserError(f"the folder {name} holds no {OWN}, which describes its classes")
    raise UserError(
        f"there is no benchmark '{name}': choose from {', '.join(BENCHMARKS)}, or name a folder "
        f"that holds a {OWN}"
    )


def open_benchmark(name: str, root: Path) -> Benchmark:
    """Opens a benchmark and checks its folder.

    Args:
        name: a key of `BENCHMARKS`, searched for below the root; or a folder with a `benchmark.yaml`.
        root: the folder given with --data.

    Raises:
        UserError: the benchmark is unknown, or its folder is missing or incomplete.
    """
    check_name(name)
    if name == "coco_object" and CocoObjectMasks.found(root):
        return CocoObjectMasks(Description.read(name), root)
    if name in BENCHMARKS:
        return BENCHMARKS[name](Description.read(name), root)
    folder = Path(name)
    about = Description.read_file(folder / OWN, folder.resolve().name)
    return OwnFolder(replace(about, own=True), folder)
