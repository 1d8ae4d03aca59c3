"""What a segmentation benchmark is: classes, images, and the ground truth of their pixels.

`benchmark_data/NAME.yaml` names the classes, their mask values and the values that are ignored. The
readers in `mask_folders.py`, `coco_stuff.py` and `coco_object.py` know the folder layouts.

Shapes: H, W height and width of an image in pixels; C classes, the background included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError, reason
from eval.confusion import IGNORE
from eval.datasets.description import OUTSIDE, VALUES, Description
from training.images import decode_image
from training.shards import is_hidden

BACKGROUND = "background"
RELEASE_NAMES = "release"  # the authors' names of classes, see `class_names`
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that swap the sides
_CHECKED = 16  # images whose size is compared with their mask's before a run


class BadImage(Exception):
    """An image that cannot be scored; `str(error)` says why. The run continues without it."""


class Benchmark(ABC):
    """Images and their ground truth.

    Args:
        description: the classes.
        root: the folder given with --data.

    Attributes:
        description: see above.
        keys: a unique name per image, in order.
        truth_from: what the ground truth is made of, for results.
        notes: sentences about data that are left out.

    Raises:
        UserError: the folder is missing or incomplete; the message names what is missing, the folders
            that were searched, and the source.
    """

    keys: Sequence[str]
    truth_from = "masks"
    notes: tuple[str, ...] = ()

    def __init__(self, description: Description, root: Path):
        self.description, self.root = description, root

    @abstractmethod
    def image_path(self, key: str) -> Path:
        """The path of an image."""

    @abstractmethod
    def mask(self, key: str) -> np.ndarray:
        """An image's mask with the file's values: integers of shape (H, W)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names for CLIP's text encoder, without the background."""
        return self.description.classes

    def names_in(self, names: str) -> tuple[str, ...]:
        """One name of each class, of a list of names: `release` or another; here all are the same."""
        return self.names

    @property
    def class_names(self) -> tuple[str, ...]:
        """All C class names in the order of the confusion matrix."""
        return ((BACKGROUND,) if self.description.background else ()) + self.names

    @cached_property
    def _table(self) -> np.ndarray:
        return self.description.table()

    def table_for(self, key: str) -> np.ndarray:
        """The class of every value in this image's mask; see `Description.table`."""
        return self._table

    @property
    def contents(self) -> Sequence[str]:
        """What tells a user's folder from others of its name: a text for each image."""
        return self.keys

    def mask_size(self, key: str) -> tuple[int, int] | None:
        """(width, height) of an image's mask, without reading its pixels; None if it cannot be told."""
        return None

    def image(self, key: str) -> Image.Image:
        """Reads an image in RGB, turned as its mask lies.

        Raises:
            BadImage: the file is damaged.
        """
        return open_image(self.image_path(key), self.mask_size(key))

    def truth(self, key: str) -> np.ndarray:
        """The class of every pixel, or `IGNORE`: int16 of shape (H, W).

        Raises:
            BadImage: the mask is damaged, contains a value that is not a class, or has nothing to count.
        """
        try:
            values = self.mask(key)
        except BadImage:
            raise
        except (
            Exception
        ) as error:  # annotations are what people made them, and formats raise their own
            why = reason(error).replace(f"{self.root}/", "")
            raise BadImage(f"its mask is damaged ({why})") from error
        if not values.size:
            raise BadImage("its mask has no pixels")
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= VALUES:
            raise BadImage(f"its mask holds values from {values.min()} to {values.max()}")
        truth = self.table_for(key)[values]  # (H, W)
        if (truth == OUTSIDE).any():
            wrong = values[truth == OUTSIDE].flat[0]
            raise BadImage(
                f"its mask holds the value {wrong}, which is none of the {len(self.names)} classes"
            )
        if (truth == IGNORE).all():
            raise BadImage("its mask has nothing to count: all of its pixels are ignored")
        return truth

    def __len__(self) -> int:
        return len(self.keys)


def open_image(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Reads and decodes an image, in RGB, turned as its EXIF data says.

    Args:
        path: of the file.
        size: (width, height) of its mask. An image that has this size only as it is stored is not turned.

    Raises:
        BadImage: the file is missing, damaged, or not an image.
    """
    try:
        image = decode_image(path)
        if size is not None and image.size == size[::-1] != size:
            stored = decode_image(path, orient=False)
            image = stored if stored.size == size else image
        return image
    except Exception as error:  # each format raises its own
        why = reason(error).replace(str(path), path.name)
        raise BadImage(f"it cannot be read ({why})") from error


def find_folder(
    root: Path, places: Sequence[str], needed: Sequence[str], about: Description
) -> Path:
    """Finds a data set's folder: the first candidate that contains everything needed.

    Args:
        root: the folder given with --data.
        places: candidates below the root; `.` is the root itself.
        needed: files and folders that the data set consists of; `a|b` means either.
        about: the benchmark, for the message.

    Raises:
        UserError: no candidate is complete.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root} (--data)")
    best: tuple[int, Path, list[str]] | None = None
    for place in places:
        folder = root / place
        lacking = [
            item for item in needed if not any((folder / one).exists() for one in item.split("|"))
        ]
        if not lacking:
            return folder
        if best is None or len(lacking) < best[0]:
            best = (len(lacking), folder, lacking)
    looked = ", ".join(str(root / place) for place in places)
    if best[0] == len(needed):
        what = f"{about.title} is missing: it needs {_or(needed)}"
    else:
        what = f"{about.title} is incomplete: {best[1]} lacks {_or(best[2])}"
    raise UserError(f"{what}; looked in {looked}; get it from {about.source}")


def listed(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder that match a glob pattern, sorted; hidden ones are left out."""
    found = folder.glob(pattern)
    return sorted(path for path in found if not is_hidden(str(path.relative_to(folder))))


def check_pairs(benchmark: Benchmark, masks: dict[str, Path] | None = None) -> None:
    """Checks that all files exist, and that a sample of masks have their images' size.

    Args:
        benchmark: with `keys` set.
        masks: the mask file of each key; None if masks are not files.

    Raises:
        UserError: files are missing, or the sizes of a mask and its image differ.
    """
    about = benchmark.description
    if not benchmark.keys:
        raise UserError(f"{about.title} in {benchmark.root} contains no images")
    for what, paths in (
        ("images", {key: benchmark.image_path(key) for key in benchmark.keys}),
        ("masks", masks or {}),
    ):
        missing = [key for key, path in paths.items() if not path.is_file()]
        if missing:
            mask = masks and masks[missing[0]]
            there = f", whose mask is {mask}" if mask and mask.is_file() else ""
            raise UserError(
                f"{about.title} is incomplete: {len(missing):,} of {len(paths):,} {what} are "
                f"missing, the first is {paths[missing[0]]}{there}; get it from {about.source}"
            )
    for key in list(benchmark.keys)[:: max(1, len(benchmark.keys) // _CHECKED)] if masks else ():
        try:
            with Image.open(benchmark.image_path(key)) as image, Image.open(masks[key]) as mask:
                stored, size = image.size, mask.size
                turned = stored[::-1] if image.getexif().get(_ORIENTATION) in _SIDEWAYS else stored
        except Exception:  # damaged files are reported at the end of the run
            continue
        if size not in (stored, turned):
            raise UserError(
                f"{masks[key]} is {_pixels(size)}, and its image {_pixels(stored)}: "
                "a mask must have the size of its image"
            )


def check_keys(benchmark: Benchmark, paths: Sequence[tuple[str, Path | str]]) -> None:
    """Checks that every image has a key of its own.

    Args:
        benchmark: for the message.
        paths: (key, image) of every image.

    Raises:
        UserError: two images have one key, and would be counted as one.
    """
    seen: dict[str, Path | str] = {}
    for key, path in paths:
        if key in seen:
            what = f"{seen[key]} twice" if seen[key] == path else f"{seen[key]} and {path}"
            raise UserError(
                f"{benchmark.description.title} has the key {key} for {what}: keys are unique"
            )
        seen[key] = path


def _or(items: Sequence[str]) -> str:
    return ", ".join(item.replace("|", " or ") for item in items)


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"
