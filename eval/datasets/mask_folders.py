"""Benchmarks whose ground truth is mask files.

The folder layouts are those of the data sets' downloads, mmsegmentation, GroupViT and TCL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import open_clip
from PIL import Image
from timm.data import ImageNetInfo

from common.errors import UserError, reason
from eval.datasets.benchmarks import (
    RELEASE_NAMES,
    Benchmark,
    check_keys,
    check_pairs,
    find_folder,
    listed,
)
from eval.datasets.description import Description
from eval.datasets.masks import read_coloured_mask, read_mask
from training.images import images_below
from training.shards import ENDINGS

OWN = "benchmark.yaml"
Keyed = tuple[str, Path]  # an image's key, and a file
_CHECKED = 64  # masks whose numbering is checked before a run


class MaskFolder(Benchmark):
    """A benchmark with one mask file per image.

    Attributes:
        images, masks: the files by key.

    Raises:
        UserError: an image without a mask, a mask without an image, or two of one key.
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
        """(key, image file, mask file) of every image; `__init__` looks whether the files exist."""
        raise NotImplementedError

    def joined(
        self,
        images: Sequence[Keyed],
        masks: Sequence[Keyed],
        where: Callable[[str], tuple[Path, Path]],
    ) -> list[tuple[str, Path, Path]]:
        """Joins the images and the masks that lie in two folders.

        Args:
            images, masks: (key, file) of all that are there.
            where: the image and the mask of a key, for the name of a file that is not there.

        Returns:
            as `pairs`, with a pair for each mask without an image too.

        Raises:
            UserError: two masks of one key.
        """
        check_keys(self, masks)
        mask_of, known = dict(masks), {key for key, _ in images}
        pairs = [(key, image, mask_of.get(key) or where(key)[1]) for key, image in images]
        return pairs + [(key, where(key)[0], mask) for key, mask in masks if key not in known]

    def image_path(self, key: str) -> Path:
        return self.images[key]

    def mask(self, key: str) -> np.ndarray:
        return read_mask(self.masks[key])

    @property
    def contents(self) -> Sequence[str]:
        return [f"{key} {mask.stat().st_size}" for key, mask in self.masks.items()]

    def mask_size(self, key: str) -> tuple[int, int] | None:
        try:
            with Image.open(self.masks[key]) as mask:
                return mask.size
        except Exception:  # `truth` says what is wrong with it
            return None


def named(folder: Path, pattern: str, ending: str) -> list[Keyed]:
    """(name without the ending, file) of the files that match a glob pattern, sorted; not of hidden ones."""
    return [(path.name.removesuffix(ending), path) for path in listed(folder, pattern)]


def images_in(folder: Path) -> list[Keyed]:
    """(name without ending, file) of the images directly in a folder, sorted; not of hidden ones."""
    found = [path for path in listed(folder, "*") if path.suffix.lower() in ENDINGS]
    return [(path.stem, path) for path in found]


def masks_in(folder: Path, ending: str = ".png") -> list[Keyed]:
    """The same of masks. Those in mmsegmentation's numbering are found by their own ending alone."""
    found = named(folder, f"*{ending}", ending)
    return [(key, file) for key, file in found if not key.endswith("TrainIds")]


def below(folder: Path) -> list[Keyed]:
    """(path without ending, file) of the images in a folder and in those below it, sorted."""
    found = [Path(one) for one in images_below(str(folder))]
    return sorted((path.relative_to(folder).with_suffix("").as_posix(), path) for path in found)


def check_numbering(
    benchmark: MaskFolder, keys: Sequence[str], others: Iterable[int], what: str, source: str
) -> None:
    """Checks that masks are not of another numbering, in which each class would be its neighbour.

    Args:
        benchmark: whose masks are looked at.
        keys: of the images, of which a sample is taken.
        others: values that only the other numbering has.
        what: the right numbering and the other one, for the message.
        source: of the right masks.

    Raises:
        UserError: a mask has one of these values.
    """
    for key in keys[:: max(1, len(keys) // _CHECKED)]:
        try:
            values = np.unique(benchmark.mask(key))
        except Exception:  # damaged files are reported at the end of the run
            continue
        if found := np.intersect1d(values, list(others)).tolist():
            raise UserError(
                f"{benchmark.masks[key]} holds the value {found[0]}, which is no class in {what}; get "
                f"them from {source}"
            )


class Pascal(MaskFolder):
    """VOC and Context: `JPEGImages`, a folder of masks, and a list of the images to score."""

    PLACES = (".",)
    MASKS = LIST = ""

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        folder = find_folder(
            root, self.PLACES, ("JPEGImages", self.MASKS, self.LIST), self.description
        )
        file = folder / self.LIST
        try:
            lines = file.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {file}: {reason(error)}") from error
        keys = [line.strip() for line in lines if line.strip()]
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
    """ADE20K's validation images in the layout of the scene parsing challenge.

    Raises:
        UserError: the masks are numbered from 0 instead of from 1.
    """

    PLACES = (".", "ADEChallengeData2016", "ade/ADEChallengeData2016", "ade20k")

    def __init__(self, description: Description, root: Path):
        super().__init__(description, root)
        what = (
            "ADE20K's published masks (1 to 150, 0 for unlabelled): masks that are numbered from 0, with "
            "255 for unlabelled, are not read"
        )
        check_numbering(self, self.keys, [255], what, description.source)

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        needed = ("images/validation", "annotations/validation")
        folder = find_folder(root, self.PLACES, needed, self.description)
        images, masks = (folder / one for one in needed)
        return self.joined(
            images_in(images),
            masks_in(masks, ".png"),
            lambda key: (images / f"{key}.jpg", masks / f"{key}.png"),
        )


class RawOrConverted(MaskFolder):
    """Masks as published, or as mmsegmentation converts them (`*TrainIds.png`)."""

    @cached_property
    def _raw_table(self) -> np.ndarray:
        return self.description.table(raw=True)

    def table_for(self, key: str) -> np.ndarray:
        return self._table if self.masks[key].name.endswith("TrainIds.png") else self._raw_table


class Cityscapes(RawOrConverted):
    """Cityscapes val, fine annotations: 19 classes.

    Raises:
        UserError: `*_labelTrainIds.png` are not converted.
    """

    PLACES = (".", "cityscapes")
    IMAGE = "_leftImg8bit.png"

    def __init__(self, description: Description, root: Path):
        super().__init__(description, root)
        converted = [key for key in self.keys if self.table_for(key) is self._table]
        what = (
            "*_labelTrainIds.png (0 to 18, 255 for what is not scored): published values, 0 to 33, belong "
            "in *_labelIds.png"
        )
        check_numbering(self, converted, range(19, 34), what, description.source)

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        needed = ("leftImg8bit/val", "gtFine/val")
        folder = find_folder(root, self.PLACES, needed, self.description)
        images, masks = (folder / one for one in needed)
        converted = bool(listed(masks, "*/*_labelTrainIds.png"))
        ending = "_gtFine_labelTrainIds.png" if converted else "_gtFine_labelIds.png"

        def where(key: str) -> tuple[Path, Path]:
            city = key.partition("_")[0]
            return images / city / f"{key}{self.IMAGE}", masks / city / f"{key}{ending}"

        return self.joined(
            named(images, f"*/*{self.IMAGE}", self.IMAGE),
            named(masks, f"*/*{ending}", ending),
            where,
        )


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
        images, masks = (
            [
                (f"{one}/{key}", file)
                for one in self.synsets
                for key, file in found(folder / place / one)
            ]
            for place, found in zip(needed, (images_in, masks_in), strict=True)
        )
        return self.joined(
            images,
            masks,
            lambda key: (folder / needed[0] / f"{key}.JPEG", folder / needed[1] / f"{key}.png"),
        )

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
        values = read_coloured_mask(self.masks[key]).astype(np.int32)  # (height, width, 3)
        return values[..., 0] + 256 * values[..., 1]


class OwnFolder(MaskFolder):
    """A user's folder: `benchmark.yaml`, with the fields of `Description`, `images/` and `masks/`.

    The mask of images/KEY.jpg (or .png, ...) is masks/KEY.png. Both may lie in folders below, which are
    part of the key. Hidden files are left out.

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
        images, masks = folder / "images", folder / "masks"
        return self.joined(
            below(images),
            [(key, file) for key, file in below(masks) if file.suffix.lower() == ".png"],
            lambda key: (images / f"{key}.jpg", masks / f"{key}.png"),
        )
