"""COCO-Stuff's maps: 171 classes as `coco_stuff`, and the objects among them as `coco_object`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from eval.confusion import IGNORE
from eval.datasets.benchmarks import find_folder, listed
from eval.datasets.description import Description
from eval.datasets.mask_folders import (
    MaskFolder,
    RawOrConverted,
    check_numbering,
    images_in,
    masks_in,
)


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
        _check_numbering(self, raw, description)

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
        return self.joined(
            images_in(images),
            masks_in(masks, ending),
            lambda key: (images / f"{key}.jpg", masks / f"{key}{ending}"),
        )


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
            _check_numbering(self, self.keys, Description.read("coco_stuff"))

    @classmethod
    def found(cls, root: Path) -> bool:
        """Whether there are maps below a folder."""
        places = [root / place / masks for place in CocoStuff.PLACES for masks in CocoStuff.MASKS]
        return any(folder.is_dir() and listed(folder, "*.png") for folder in places)

    def pairs(self, root: Path) -> list[tuple[str, Path, Path]]:
        images, masks = CocoStuff.folders(root, self.description)
        self.ending = next(one for one in self.ENDINGS if one == ".png" or listed(masks, f"*{one}"))
        return self.joined(
            images_in(images),
            masks_in(masks, self.ending),
            lambda key: (images / f"{key}.jpg", masks / f"{key}{self.ending}"),
        )

    @cached_property
    def _table(self) -> np.ndarray:
        if self.ending == self.ENDINGS[0]:
            return self.description.table()
        stuff = Description.read("coco_stuff").table(raw=self.ending == self.ENDINGS[-1])
        things = len(self.description.classes)
        is_thing, outside = (stuff >= 0) & (stuff < things), stuff < IGNORE
        return np.where(outside, stuff, np.where(is_thing, stuff + 1, 0)).astype(np.int16)


def _check_numbering(benchmark: MaskFolder, keys: Sequence[str], stuff: Description) -> None:
    """Checks that published maps are not of the older numbering; `stuff` is COCO-Stuff's description."""
    gaps = [*set(range(max(stuff.raw))) - set(stuff.raw), 182]
    what = (
        "COCO-Stuff's published maps (0 to 181, 255 for unlabelled): maps of the older numbering, 1 to "
        "182 with 0 for unlabelled, are not read"
    )
    check_numbering(benchmark, keys, gaps, what, stuff.source)
