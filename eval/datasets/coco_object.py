"""COCO-Object: 80 object classes and background, rasterised from COCO's instance annotations."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from common.errors import UserError
from eval.datasets.benchmarks import Benchmark, Description, check_pairs, find_folder

ANNOTATIONS = "annotations/instances_val2017.json"


class CocoObject(Benchmark):
    """COCO val2017. Class i is the i-th category in the order of COCO's ids, from 1.

    Where instances overlap, the smaller one is on top. Crowd annotations count as their category.
    """

    PLACES = (".", "coco", "coco_stuff164k", "COCO")
    IMAGES = ("val2017", "images/val2017")

    def __init__(self, description: Description, root: Path):
        super().__init__(description, root)
        needed = (ANNOTATIONS, "|".join(self.IMAGES))
        folder = find_folder(root, self.PLACES, needed, description)
        self.folder = next(folder / one for one in self.IMAGES if (folder / one).is_dir())
        file = folder / ANNOTATIONS
        try:
            content = json.loads(file.read_bytes())
            ordered = sorted(content["categories"], key=lambda one: one["id"])
            self.classes = {one["id"]: place for place, one in enumerate(ordered, start=1)}
            self.records = {Path(i["file_name"]).stem: i for i in content["images"]}
            self.instances = defaultdict(list)
            for instance in content["annotations"]:
                self.instances[instance["image_id"]].append(instance)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} is damaged, or is not a COCO annotation file: {error!r}"
            ) from error
        if (found := [one["name"] for one in ordered]) != list(description.classes):
            odd = sorted(set(found) ^ set(description.classes))
            raise UserError(f"{file} does not have COCO's 80 categories: {', '.join(odd[:5])}")
        self.keys = sorted(self.records)
        check_pairs(self)

    def image_path(self, key: str) -> Path:
        return self.folder / self.records[key]["file_name"]

    def mask(self, key: str) -> np.ndarray:
        record = self.records[key]
        classes = np.zeros((record["height"], record["width"]), np.uint8)  # (height, width)
        for one in sorted(self.instances[record["id"]], key=lambda one: -one["area"]):
            classes[instance_mask(one, *classes.shape)] = self.classes[one["category_id"]]
        return classes


def instance_mask(instance: dict, height: int, width: int) -> np.ndarray:
    """Rasterises one of COCO's instances from polygons or run lengths.

    Returns:
        bool of shape (height, width).

    Raises:
        ValueError: the annotation is for another image size, or is not a shape.
    """
    shape = instance["segmentation"]
    if isinstance(shape, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        runs = coco_mask.frPyObjects(shape, height, width)
    else:
        runs = shape
    if list(runs["size"]) != [height, width]:
        raise ValueError(f"an instance is for {runs['size']} pixels instead of {[height, width]}")
    return coco_mask.decode(runs).astype(bool)
