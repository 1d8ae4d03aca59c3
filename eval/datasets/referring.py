"""RefCOCO, RefCOCO+ and RefCOCOg in the layout of REFER: expressions and the instances they mean.

ROOT/refcoco/refs(unc).p      ROOT/refcoco/instances.json
ROOT/refcoco+/refs(unc).p     ROOT/refcoco+/instances.json
ROOT/refcocog/refs(umd).p     ROOT/refcocog/instances.json
ROOT/images/mscoco/images/train2014 (or ROOT/train2014, ROOT/images/train2014)
"""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from eval.datasets.benchmarks import BadImage
from eval.datasets.coco_object import instance_mask

SOURCE = "https://github.com/lichengunc/refer and https://cocodataset.org/#download (2014 Train)"
IMAGES = ("images/mscoco/images/train2014", "images/train2014", "train2014", "coco/train2014")
SPLITS = {
    "refcoco_val": ("refcoco", "refs(unc).p", "val"),
    "refcoco_testA": ("refcoco", "refs(unc).p", "testA"),
    "refcoco_testB": ("refcoco", "refs(unc).p", "testB"),
    "refcoco+_val": ("refcoco+", "refs(unc).p", "val"),
    "refcoco+_testA": ("refcoco+", "refs(unc).p", "testA"),
    "refcoco+_testB": ("refcoco+", "refs(unc).p", "testB"),
    "refcocog_val": ("refcocog", "refs(umd).p", "val"),
}


class PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries, and runs nothing that a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and plain data needs nothing")


@dataclass(frozen=True)
class Expression:
    """One sentence about one instance.

    Attributes:
        key: the sentence's number, as text.
        text: as people wrote it, in lower case.
        instance: the id of the annotation that it means.
    """

    key: str
    text: str
    instance: int


class ReferringSet:
    """One split of a referring benchmark.

    Args:
        name: a key of `SPLITS`.
        root: given with --data.

    Attributes:
        name: see above.
        expressions: by image id; images in the order of their ids.

    Raises:
        UserError: the folder is missing, half there or damaged.
    """

    def __init__(self, name: str, root: Path):
        if name not in SPLITS:
            raise UserError(f"there is no benchmark '{name}': choose from {', '.join(SPLITS)}")
        folder_name, refs_name, split = SPLITS[name]
        self.name, folder = name, root / folder_name
        if not root.is_dir():
            raise UserError(f"there is no folder {root} (--data)")
        self.images = next((root / one for one in IMAGES if (root / one).is_dir()), None)
        lacking = [
            str(p) for p in (folder / refs_name, folder / "instances.json") if not p.is_file()
        ]
        if self.images is None:
            lacking.append("COCO's train2014 images (" + " or ".join(IMAGES) + f" in {root})")
        if lacking:
            raise UserError(f"{name} lacks {', '.join(lacking)}; get it from {SOURCE}")
        refs = _read_refs(folder / refs_name)
        file = folder / "instances.json"
        try:
            content = json.loads(file.read_bytes())
            self.records = {one["id"]: one for one in content["images"]}
            self.instances = {one["id"]: one for one in content["annotations"]}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged or no COCO annotation file: {error!r}") from error
        self.expressions = self._expressions(refs, split, folder / refs_name)
        self._check()

    def __len__(self) -> int:
        return sum(map(len, self.expressions.values()))

    def path(self, image: int) -> Path:
        """Where an image lies."""
        return self.images / self.records[image]["file_name"]

    def mask(self, expression: Expression) -> np.ndarray:
        """The pixels that an expression means, bool of shape (height, width).

        Raises:
            BadImage: its annotation is damaged or has no pixel.
        """
        instance = self.instances[expression.instance]
        record = self.records[instance["image_id"]]
        try:
            mask = instance_mask(instance, record["height"], record["width"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise BadImage(f"the annotation {expression.instance} is damaged ({error})") from error
        if not mask.any():
            raise BadImage(f"the annotation {expression.instance} has no pixel")
        return mask

    def _expressions(
        self, refs: list[dict[str, Any]], split: str, file: Path
    ) -> dict[int, list[Expression]]:
        found = defaultdict(list)
        try:
            for ref in refs:
                if ref["split"] != split:
                    continue
                instance = self.instances[ref["ann_id"]]
                for one in ref["sentences"]:
                    expression = Expression(str(one["sent_id"]), one["sent"], ref["ann_id"])
                    found[instance["image_id"]].append(expression)
            return {image: found[image] for image in sorted(found)}
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{file} and the instances.json beside it disagree: {error!r}"
            ) from error

    def _check(self) -> None:
        if not self.expressions:
            raise UserError(f"{self.name} has no expression")
        missing = [image for image in self.expressions if not self.path(image).is_file()]
        if missing:
            raise UserError(
                f"{self.name} is half there: {len(missing):,} of {len(self.expressions):,} images "
                f"are missing, the first is {self.path(missing[0])}; get it from {SOURCE}"
            )


def _read_refs(file: Path) -> list[dict[str, Any]]:
    try:
        with open(file, "rb") as stream:
            # Python 2 wrote these files: its byte strings are texts.
            refs = PlainUnpickler(stream, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, TypeError,
            AttributeError) as error:  # fmt: skip
        raise UserError(f"{file} is damaged or no list of expressions: {error}") from error
    if not isinstance(refs, list):
        raise UserError(f"{file} holds a {type(refs).__name__}, not a list of expressions")
    return refs
