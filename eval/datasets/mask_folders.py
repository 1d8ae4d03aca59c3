"""Benchmarks whose ground truth is mask files.

The folder layouts are those of the data sets' downloads, mmsegmentation, GroupViT and TCL.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import open_clip
from PIL import Image
from timm.data import ImageNetInfo

from common.errors import UserError
from eval.confusion import IGNORE
from eval.datasets.benchmarks import (
    RELEASE_NAMES,
    Benchmark,
    check_keys,
    check_pairs,
    find_folder,
    listed,
    read_mask,
)
from eval.datasets.description import Description
from training.images import ENDINGS

OWN = "benchmark.yaml"
_CHECKED = 64  # masks whose numbering is checked before a run


class MaskFolder(Benchmark):
    """A benchmark with one mask file per image.

    Attributes:
        images, masks: the files by key.
    """

    def __init__(self, description: Description, root: Path):
        super().__init__(description, root)
        pairs = self.pairs(root)
        check_keys(self, [(key, image) for key, image, _ in pairs])
        self.keys = [key for key, _, _ in pairs]
        self.images = {key: image for key, image, _ in pairs}
        self.masks = {key: mask for key, _, mask in pairs}
        check_pairs(self, self.masks)

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        """(key, image file, mask file) of every image."""
        raise NotImplementedError

    def image_path(self, key: str) -> Path:
        return self.images[key]

    def mask(self, key: str) -> np.ndarray:
        return read_mask(self.masks[key])

    def mask_size(self, key: str) -> tuple[int, int] | None:
        try:
            with Image.open(self.masks[key]) as mask:
                return mask.size
        except Exception:  # `truth` says what is wrong with it
            return None


class Pascal(MaskFolder):
    """VOC and Context: `JPEGImages`, a folder of masks, and a list of the images to score."""

    PLACES = (".",)
    MASKS = LIST = ""

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        folder = find_folder(
            root, self.PLACES, ("JPEGImages", self.MASKS, self.LIST), self.description
        )
        keys = (folder / self.LIST).read_text().split()
        return [
            (key, folder / "JPEGImages" / f"{key}.jpg", folder / self.MASKS / f"{key}.png")
            for key in keys
        ]


class Voc(Pascal):
    """PASCAL VOC 2012 val: 21 classes as `voc`, without background as `voc20`."""

    PLACES = (".", "VOCdevkit/VOC2012", "VOC2012", "voc/VOC2012", "voc")
    MASKS, LIST = "SegmentationClass", "ImageSets/Segmentation/val.txt"


class Context(Pascal):
    """PASCAL Context val: 60 classes as `context`, without background as `context59`."""

    PLACES = (".", "VOCdevkit/VOC2010", "VOC2010", "pascal_context/VOC2010", "pascal_context")
    MASKS, LIST = "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt"


class Ade20k(MaskFolder):
    """ADE20K's validation images in the layout of the scene parsing challenge."""

    PLACES = (".", "ADEChallengeData2016", "ade/ADEChallengeData2016", "ade20k")

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        needed = ("images/validation", "annotations/validation")
        folder = find_folder(root, self.PLACES, needed, self.description)
        return [
            (image.stem, image, folder / needed[1] / f"{image.stem}.png")
            for image in listed(folder / needed[0], "*.jpg")
        ]


class RawOrConverted(MaskFolder):
    """Masks as published, or as mmsegmentation converts them (`*TrainIds.png`)."""

    @cached_property
    def _raw_table(self) -> np.ndarray:
        return self.description.table(raw=True)

    def table_for(self, key: str) -> np.ndarray:
        return self._table if self.masks[key].name.endswith("TrainIds.png") else self._raw_table


class CocoStuff(RawOrConverted):
    """COCO-Stuff 164k val2017: 171 classes.

    Published maps hold COCO's ids less 1. Older maps hold the ids themselves, 1 to 182, with 0 for
    unlabelled pixels; scored as published ones, each class would be its neighbour.

    Raises:
        UserError: the maps hold ids of 1 to 182.
    """

    PLACES = (".", "coco_stuff164k", "cocostuff", "coco")
    MASKS = ("annotations/val2017", "stuffthingmaps/val2017", "val2017_maps")
    IMAGES = ("images/val2017", "val2017")

    def __init__(self, description: Description, root: Path):
        super().__init__(description, root)
        raw = [key for key in self.keys if self.table_for(key) is self._raw_table]
        check_numbering(self, raw, description)

    @classmethod
    def folders(cls, root: Path, about: Description) -> tuple[Path, Path]:
        """The folders of images and of masks.

        Raises:
            UserError: there is none that has both.
        """
        needed = ("|".join(cls.IMAGES), "|".join(cls.MASKS))
        folder = find_folder(root, cls.PLACES, needed, about)
        images = next(folder / one for one in cls.IMAGES if (folder / one).is_dir())
        return images, next(folder / one for one in cls.MASKS if (folder / one).is_dir())

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        images, masks = self.folders(root, self.description)
        converted = bool(listed(masks, "*_labelTrainIds.png"))
        ending = "_labelTrainIds.png" if converted else ".png"
        return [
            (image.stem, image, masks / f"{image.stem}{ending}")
            for image in listed(images, "*.jpg")
        ]


class CocoObjectMasks(MaskFolder):
    """COCO-Object's classes as GroupViT's converter and the authors take them: of COCO-Stuff's maps.

    Things are classes 1 to 80. Stuff and unlabelled pixels are background. The converter's own files
    (`*_instanceTrainIds.png`), mmsegmentation's (`*_labelTrainIds.png`) and the published maps are read.
    """

    truth_from = "COCO-Stuff's maps"
    ENDINGS = ("_instanceTrainIds.png", "_labelTrainIds.png", ".png")

    def __init__(self, description: Description, root: Path):
        super().__init__(description, root)
        if self.ending == self.ENDINGS[-1]:
            check_numbering(self, self.keys, Description.read("coco_stuff"))

    @classmethod
    def found(cls, root: Path) -> bool:
        """Whether there are maps below a folder."""
        places = [root / place / masks for place in CocoStuff.PLACES for masks in CocoStuff.MASKS]
        return any(folder.is_dir() and listed(folder, "*.png") for folder in places)

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        images, masks = CocoStuff.folders(root, self.description)
        self.ending = next(one for one in self.ENDINGS if one == ".png" or listed(masks, f"*{one}"))
        return [
            (image.stem, image, masks / f"{image.stem}{self.ending}")
            for image in listed(images, "*.jpg")
        ]

    @cached_property
    def _table(self) -> np.ndarray:
        if self.ending == self.ENDINGS[0]:
            return self.description.table()
        stuff = Description.read("coco_stuff").table(raw=self.ending == self.ENDINGS[-1])
        things = len(self.description.classes)
        is_thing, outside = (stuff >= 0) & (stuff < things), stuff < IGNORE
        return np.where(outside, stuff, np.where(is_thing, stuff + 1, 0)).astype(np.int16)


def check_numbering(benchmark: MaskFolder, keys: Sequence[str], stuff: Description) -> None:
    """Checks that COCO-Stuff's published maps are not of the older numbering.

    Args:
        benchmark: whose masks are looked at.
        keys: of images with published maps.
        stuff: COCO-Stuff's description.

    Raises:
        UserError: a mask has a value that only the older numbering has.
    """
    gaps = [*set(range(max(stuff.raw))) - set(stuff.raw), 182]
    for key in keys[:: max(1, len(keys) // _CHECKED)]:
        try:
            values = np.unique(benchmark.mask(key))
        except Exception:  # damaged files are reported at the end of the run
            continue
        if found := np.intersect1d(values, gaps).tolist():
            raise UserError(
                f"{benchmark.masks[key]} holds the value {found[0]}, which is no class in COCO-Stuff's "
                "published maps (0 to 181, 255 for unlabelled): maps of the older numbering, 1 to 182 "
                f"with 0 for unlabelled, are not read; get them from {stuff.source}"
            )


class Cityscapes(RawOrConverted):
    """Cityscapes val, fine annotations: 19 classes."""

    PLACES = (".", "cityscapes")

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        needed = ("leftImg8bit/val", "gtFine/val")
        folder = find_folder(root, self.PLACES, needed, self.description)
        converted = bool(listed(folder / needed[1], "*/*_labelTrainIds.png"))
        ending = "_gtFine_labelTrainIds.png" if converted else "_gtFine_labelIds.png"
        pairs = []
        for image in listed(folder / needed[0], "*/*_leftImg8bit.png"):
            key = image.name.removesuffix("_leftImg8bit.png")
            pairs.append((key, image, folder / needed[1] / image.parent.name / f"{key}{ending}"))
        return pairs


class ImageNetS(MaskFolder):
    """ImageNet-S validation. The class of a mask's pixel is red + 256 * green.

    Class i is the i-th class folder in alphabetical order; the names are ImageNet's.
    """

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        count = self.description.folders
        name = f"ImageNetS{count}"
        places = (".", name, f"imagenet-s/{name}", f"ImageNetS/{name}")
        needed = ("validation", "validation-segmentation")
        folder = find_folder(root, places, needed, self.description)
        self.synsets = [one.name for one in listed(folder / needed[0], "*") if one.is_dir()]
        known = ImageNetInfo("imagenet-1k").label_names()
        if len(self.synsets) != count or not set(self.synsets) <= set(known):
            raise UserError(
                f"{folder / needed[0]} has {len(self.synsets)} folders, but {name} has {count}, "
                f"one per ImageNet class; get it from {self.description.source}"
            )
        names = dict(zip(known, open_clip.IMAGENET_CLASSNAMES, strict=True))
        self._names = tuple(names[synset] for synset in self.synsets)
        return [
            (f"{one}/{image.stem}", image, folder / needed[1] / one / f"{image.stem}.png")
            for one in self.synsets
            for image in listed(folder / needed[0] / one, "*.JPEG")
        ]

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def names_in(self, names: str) -> tuple[str, ...]:
        """open_clip's curated names, or the release's: WordNet's first of each class, in lower case."""
        if names != RELEASE_NAMES:
            return self._names
        info = ImageNetInfo("imagenet-1k")
        every = info.label_names()
        indices = [every.index(synset) for synset in self.synsets]
        return tuple(info.index_to_description(one).split(",")[0].lower() for one in indices)

    def mask(self, key: str) -> np.ndarray:
        with Image.open(self.masks[key]) as image:
            values = np.array(image)  # (height, width, channels)
        if values.ndim != 3:
            raise ValueError("it has one channel, but ImageNet-S encodes classes in two")
        red, green = values[..., 0].astype(np.int32), values[..., 1].astype(np.int32)
        return red + 256 * green


class OwnFolder(MaskFolder):
    """A user's folder: `benchmark.yaml`, with the fields of `Description`, `images/` and `masks/`.

    The mask of images/KEY.jpg (or .png, ...) is masks/KEY.png. Hidden files are left out.

    Raises:
        UserError: the description has a field that only published data sets have.
    """

    def __init__(self, description: Description, root: Path):
        for name in ("raw", "raw_ignore", "folders"):
            if getattr(description, name):
                raise UserError(
                    f"{root / OWN} has `{name}`, which is for published data sets: the mask value of the "
                    "i-th of `classes` is `first` + i - 1"
                )
        super().__init__(description, root)

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        folder = find_folder(root, (".",), ("images", "masks"), self.description)
        return [
            (image.stem, image, folder / "masks" / f"{image.stem}.png")
            for image in listed(folder / "images", "*")
            if image.suffix.lower() in ENDINGS
        ]
