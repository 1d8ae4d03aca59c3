"""COCO-Object: 80 object classes and background, rasterised from COCO's instance annotations.

`coco_stuff.CocoObjectMasks` reads them from COCO-Stuff's maps, where there are any.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from common.errors import UserError, reason
from eval.datasets.benchmarks import Benchmark, check_keys, check_pairs, find_folder
from eval.datasets.description import Description

ANNOTATIONS = "annotations/instances_val2017.json"
_LARGEST = 1 << 16  # pixels of a side


class CocoObject(Benchmark):
    """COCO val2017. Class i is the i-th of COCO's categories, from 1; a file's ids may be others.

    Where instances overlap, the smaller one is on top. Crowd annotations count as their category. The
    authors take COCO-Stuff's maps instead, see `CocoObjectMasks`.
    """

    truth_from = "instances"
    PLACES = (".", "coco", "coco_stuff164k", "COCO")
    IMAGES = ("val2017", "images/val2017")

    def __init__(self, description: Description, root: Path):
        super().__init__(description, root)
        needed = (ANNOTATIONS, "|".join(self.IMAGES))
        folder = find_folder(root, self.PLACES, needed, description)
        self.folder = next(folder / one for one in self.IMAGES if (folder / one).is_dir())
        file = folder / ANNOTATIONS
        content = read_annotations(file)
        try:
            found = [(one["id"], one["name"]) for one in content["categories"]]
            known = {name: place for place, name in enumerate(description.classes, start=1)}
            self.classes = {number: known.get(name) for number, name in found}
            files = [one["file_name"] for one in content["images"]]
            names = [(Path(one).with_suffix("").as_posix(), one) for one in files]
            self.records = dict(zip((key for key, _ in names), content["images"], strict=True))
            self.instances = by_image(content["annotations"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{file} is damaged, or is not a COCO annotation file: {error!r}"
            ) from error
        check_keys(self, names)
        if sorted(map(str, self.classes.values())) != sorted(map(str, known.values())):
            odd = {name for _, name in found} ^ set(known)
            why = ", ".join(sorted(map(str, odd))[:5]) or "ids or names are not unique"
            raise UserError(f"{file} does not have COCO's 80 categories: {why}")
        self.notes = check_images_of(self.instances, content["images"], file)
        self.keys = sorted(self.records)
        check_pairs(self)

    def image_path(self, key: str) -> Path:
        return self.folder / self.records[key]["file_name"]

    def mask_size(self, key: str) -> tuple[int, int] | None:
        return size_of(self.records[key])

    def mask(self, key: str) -> np.ndarray:
        record = self.records[key]
        size = size_of(record)
        if size is None:
            raise ValueError("its record has no height and width in pixels")
        classes = np.zeros(size[::-1], np.uint8)  # (height, width)
        parts = []
        for one in self.instances.get(record["id"], ()):
            try:
                parts.append((_area(one), self._class(one), instance_mask(one, *classes.shape)))
            except Exception as error:  # annotations hold whatever people's tools write
                number = one.get("id", "without id") if isinstance(one, dict) else one
                raise ValueError(f"annotation {number}: {reason(error)}") from error
        for _, number, mask in sorted(parts, key=lambda part: -part[0]):
            classes[mask] = number
        return classes

    def _class(self, instance: dict[str, Any]) -> int:
        category = instance.get("category_id")
        is_id = isinstance(category, int | str) and not isinstance(category, bool)
        if not is_id or category not in self.classes:
            raise ValueError(f"the category {category!r} is none of COCO's 80")
        return self.classes[category]


def read_annotations(file: Path) -> dict[str, Any]:
    """The content of a COCO annotation file.

    Raises:
        UserError: it cannot be read, or lacks one of its lists.
    """
    try:
        content = json.loads(file.read_bytes())
        for name in ("images", "annotations"):
            if not isinstance(content[name], list):
                raise TypeError(f"its {name} are not a list")
        for place, one in enumerate(content["images"]):
            for name, kind in (("id", int | str), ("file_name", str)):
                if (
                    not isinstance(one, dict)
                    or not isinstance(one.get(name), kind)
                    or one[name] == ""
                ):
                    raise ValueError(f"the image in place {place} has no {name}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is damaged, or is not a COCO annotation file: {error!r}"
        ) from error
    counts = Counter(str(one["id"]) for one in content["images"])
    if twice := [one for one, count in counts.items() if count > 1]:
        raise UserError(f"{file} has {counts[twice[0]]} images of id {twice[0]}: ids are unique")
    return content


def by_image(annotations: list[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    """Annotations by the id of their image.

    Raises:
        ValueError: one has no image.
    """
    found = defaultdict(list)
    for place, one in enumerate(annotations):
        image = one.get("image_id") if isinstance(one, dict) else None
        if not isinstance(image, int | str):
            raise ValueError(f"the annotation in place {place} names no image")
        found[image].append(one)
    return found


def check_images_of(
    annotations: dict[Any, list[dict[str, Any]]], images: list[dict[str, Any]], file: Path
) -> tuple[str, ...]:
    """Checks that annotations belong to images of their file, and says how many do not.

    Args:
        annotations: by the id of their image.
        images: the file's records of images.
        file: for messages.

    Raises:
        UserError: none belongs to an image, or ids are a text in one place and a number in the other.
    """
    ids = {one["id"] for one in images}
    strangers = [one for one in annotations if one not in ids]
    texts = {str(one) for one in ids}
    if same := [one for one in strangers if str(one) in texts]:
        raise UserError(
            f"{file} has images and annotations whose ids are not of one type: an annotation is of the "
            f"image {same[0]!r}, and the ids of images are {', '.join(map(repr, sorted(ids, key=str)[:2]))}"
        )
    if not strangers or not images:
        return ()
    count, total = (
        sum(len(annotations[one]) for one in these) for these in (strangers, annotations)
    )
    sentence = (
        f"{count:,} of the {total:,} annotations in {file} are of images that it does not list, the "
        f"first of the image {strangers[0]!r}"
    )
    if count == total:
        raise UserError(sentence)
    return (sentence,)


def size_of(record: dict[str, Any]) -> tuple[int, int] | None:
    """(width, height) of an image by its record in an annotation file; None if it has none."""
    size = record.get("width"), record.get("height")
    whole = all(isinstance(one, int) and 0 < one <= _LARGEST for one in size)
    return size if whole else None


def instance_mask(instance: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Rasterises one of COCO's instances from polygons or run lengths.

    Returns:
        bool of shape (height, width).

    Raises:
        ValueError: the annotation is for another image size, or is not a shape.
    """
    shape = instance.get("segmentation")
    if isinstance(shape, list):
        if not shape:
            raise ValueError("its segmentation is empty")
        # They are checked here, as pycocotools takes four numbers for a box.
        polygons = [_polygon(one, height, width) for one in shape]
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    elif isinstance(shape, dict) and "counts" in shape:
        size = shape.get("size")
        if size != [height, width]:
            raise ValueError(f"it is for {size} pixels instead of {[height, width]}")
        # They are summed here, as pycocotools leaves the rest of a mask unset where runs are missing.
        lengths = _run_lengths(shape["counts"])
        if min(lengths, default=-1) < 0 or sum(lengths) != height * width:
            raise ValueError("its run lengths are not those of its size")
        runs = coco_mask.frPyObjects({"size": size, "counts": lengths}, height, width)
    else:
        raise ValueError("it has no segmentation")
    return coco_mask.decode(runs).astype(bool)


def _run_lengths(counts: Any) -> list[int]:
    """Run lengths as a list, or as COCO's string: five bits a character, the lowest first.

    A sixth bit says that more follow. From the fourth on, a length is less the one two before it.
    """
    if isinstance(counts, list):
        if not all(isinstance(one, int) for one in counts):
            raise ValueError("its run lengths are not whole numbers")
        return counts
    if not isinstance(counts, str):
        raise ValueError(f"its run lengths are {counts!r}")
    lengths: list[int] = []
    value = shift = 0
    for character in counts.encode():
        bits = character - ord("0")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:  # the sign
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths


def _polygon(points: Any, height: int, width: int) -> list[float]:
    """A polygon's coordinates, x and y in turn; far outside of the image they would fill the memory."""
    if not isinstance(points, list) or len(points) < 6 or len(points) % 2:
        raise ValueError("a polygon is not a list of at least three points")
    far = 10 * max(height, width)
    for one in points:
        if isinstance(one, bool) or not isinstance(one, int | float) or not -far <= one <= far:
            raise ValueError(f"a polygon has the coordinate {one!r}")
    return points


def _area(instance: dict[str, Any]) -> float:
    area = instance.get("area")
    if isinstance(area, bool) or not isinstance(area, int | float) or not math.isfinite(area):
        raise ValueError(f"its area is {area!r}")
    return area
