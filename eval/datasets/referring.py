"""RefCOCO, RefCOCO+ and RefCOCOg in REFER's layout: expressions and the instances they refer to.

ROOT/refcoco/refs(unc).p      ROOT/refcoco/instances.json
ROOT/refcoco+/refs(unc).p     ROOT/refcoco+/instances.json
ROOT/refcocog/refs(umd).p     ROOT/refcocog/instances.json
ROOT/images/mscoco/images/train2014 (or ROOT/train2014, ROOT/images/train2014)
"""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import UserError, reason
from eval.datasets.benchmarks import BadImage, open_image
from eval.datasets.coco_object import instance_mask, read_annotations, size_of

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
    """Unpickles plain data only (numbers, strings, lists, dictionaries), so that no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it loads {module}.{name}, and only plain data is allowed")


@dataclass(frozen=True)
class Expression:
    """A referring expression: one sentence about one instance.

    Attributes:
        key: the sentence's id, as a string.
        text: the sentence, in lower case.
        instance: id of the annotation that the sentence refers to.
    """

    key: str
    text: str
    instance: int


class ReferringSet:
    """One split of a referring benchmark.

    Args:
        name: a key of `SPLITS`.
        root: the folder given with --data.

    Attributes:
        name: see above.
        expressions: by image id, in the order of the ids.

    Raises:
        UserError: the folder is missing, incomplete or damaged.
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
        content = read_annotations(file)
        try:
            self.records = {one["id"]: one for one in content["images"]}
            self.instances = {one["id"]: one for one in content["annotations"]}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} is damaged, or is not a COCO annotation file: {error!r}"
            ) from error
        if len(self.instances) < len(content["annotations"]):
            raise UserError(f"{file} has several annotations of one id: ids are unique")
        self.expressions = self._expressions(refs, split, folder / refs_name)
        self._check()

    def __len__(self) -> int:
        return sum(map(len, self.expressions.values()))

    def path(self, image: int) -> Path:
        """The path of an image."""
        return self.images / self.records[image]["file_name"]

    def picture(self, image: int) -> Image.Image:
        """Reads an image in RGB, turned as its masks lie.

        Raises:
            BadImage: the file is damaged.
        """
        return open_image(self.path(image), size_of(self.records[image]))

    def mask(self, expression: Expression) -> np.ndarray:
        """The mask of an expression's instance, bool of shape (height, width).

        Raises:
            BadImage: the annotation is damaged or has no pixels.
        """
        instance = self.instances[expression.instance]
        size = size_of(self.records[instance["image_id"]])
        if size is None:
            raise BadImage("its image's record has no height and width in pixels")
        try:
            mask = instance_mask(instance, size[1], size[0])
        except Exception as error:  # annotations hold whatever people's tools write
            why = reason(error)
            raise BadImage(f"the annotation {expression.instance} is damaged ({why})") from error
        if not mask.any():
            raise BadImage(f"the annotation {expression.instance} has no pixels")
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
            found = {image: found[image] for image in sorted(found)}
            for image in found:
                self.records[image]["file_name"]
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{file} and the instances.json beside it disagree: {error!r}"
            ) from error
        counts = Counter(one.key for group in found.values() for one in group)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise UserError(
                f"{file} has {counts[twice[0]]} sentences of id {twice[0]}: ids are unique"
            )
        return found

    def _check(self) -> None:
        if not self.expressions:
            raise UserError(f"{self.name} has no expressions")
        missing = [image for image in self.expressions if not self.path(image).is_file()]
        if missing:
            raise UserError(
                f"{self.name} is incomplete: {len(missing):,} of {len(self.expressions):,} images "
                f"are missing, the first is {self.path(missing[0])}; get it from {SOURCE}"
            )


def _read_refs(file: Path) -> list[dict[str, Any]]:
    try:
        with open(file, "rb") as stream:
            # Python 2 wrote these files; latin1 decodes its byte strings.
            refs = PlainUnpickler(stream, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, TypeError,
            AttributeError) as error:  # fmt: skip
        raise UserError(f"{file} is damaged, or is not a list of expressions: {error}") from error
    if not isinstance(refs, list):
        raise UserError(f"{file} holds a {type(refs).__name__}, not a list of expressions")
    return refs
