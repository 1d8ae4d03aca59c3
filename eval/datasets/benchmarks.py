"""What a segmentation benchmark is: its classes, its images and their true classes.

`benchmark_data/NAME.yaml` says what the classes are called, which mask values they have and which
values count for nothing; the readers in `mask_folders.py` and `coco_object.py` say where files lie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from common.errors import UserError, reason
from eval.confusion import IGNORE

DATA = Path(__file__).with_name("benchmark_data")
BACKGROUND = "background"
_OUTSIDE = -2  # a mask value that is neither a class nor to be ignored
_VALUES = 1 << 16
_CHECKED = 16  # images whose size is compared with their mask's before a run


class BadImage(Exception):
    """An image that cannot be scored; `str(error)` says why. The run goes on without it."""


@dataclass(frozen=True)
class Description:
    """What `benchmark_data/NAME.yaml` says.

    Attributes:
        name: as in --benchmarks.
        title: as in tables.
        source: where the data can be had.
        classes: the names that CLIP is asked for, without background.
        background: whether there is a class for what is none of `classes`; it is class 0.
        threshold: of Eq. 8 with softmax, for the background; the released configuration's.
        ignore: mask values that count for nothing.
        first: the mask value of the first of `classes`.
        raw: mask values of `classes` in files as they are published, where those differ.
        folders: how many classes the data set's folders make, where they make them.
    """

    name: str
    title: str
    source: str
    background: bool
    ignore: tuple[int, ...]
    first: int
    classes: tuple[str, ...] = ()
    threshold: float | None = None
    raw: tuple[int, ...] = ()
    folders: int = 0

    @classmethod
    def read(cls, name: str) -> Description:
        """The description of a benchmark in `DATA`."""
        return cls.read_file(DATA / f"{name}.yaml", name)

    @classmethod
    def read_file(cls, path: Path, name: str) -> Description:
        """The description in a YAML file.

        Raises:
            UserError: it cannot be read, lacks a field or has one of another kind.
        """
        try:
            values: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
            gaps = set(values.pop("raw_gaps", ()))
            if gaps:
                numbers = range(len(values["classes"]) + len(gaps))
                values["raw"] = [number for number in numbers if number not in gaps]
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            description = cls(name, **values)
            if not all(isinstance(one, str) and one for one in description.classes):
                raise ValueError(
                    "its classes are not all names (quote yes, no, on, off and numbers)"
                )
            description.table()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {reason(error)}") from error
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML: {reason(error)}") from error
        except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
            raise UserError(f"{path} describes no benchmark: {reason(error)}") from error
        return description

    def table(self, raw: bool = False) -> np.ndarray:
        """From mask value to class: int16 of shape (65536,)."""
        table = np.full(_VALUES, IGNORE if raw else _OUTSIDE, np.int16)
        table[list(self.ignore)] = IGNORE
        count = len(self.classes) or self.folders
        first_class = int(self.background)
        values = list(self.raw) if raw else [self.first + i for i in range(count)]
        table[values] = np.arange(first_class, first_class + count)
        if self.background:
            table[0] = 0
        return table


class Benchmark(ABC):
    """Images and their true classes.

    Args:
        description: what the classes are.
        root: the folder given with --data.

    Attributes:
        description: see above.
        keys: the images' names, in order; they tell results apart.

    Raises:
        UserError: the folder is missing or half there; what is missing, where it was looked for and
            where it can be had.
    """

    keys: Sequence[str]

    def __init__(self, description: Description, root: Path):
        self.description, self.root = description, root

    @abstractmethod
    def image_path(self, key: str) -> Path:
        """Where an image lies."""

    @abstractmethod
    def mask(self, key: str) -> np.ndarray:
        """The mask's values as they are in the file: integers of shape (height, width)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that CLIP is asked for, without background."""
        return self.description.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes that pixels can have, in the order of the confusion matrix."""
        return ((BACKGROUND,) if self.description.background else ()) + self.names

    @cached_property
    def _table(self) -> np.ndarray:
        return self.description.table()

    def table_for(self, key: str) -> np.ndarray:
        """From the values of this image's mask to classes; see `Description.table`."""
        return self._table

    def image(self, key: str) -> Image.Image:
        """An image in RGB.

        Raises:
            BadImage: it is damaged.
        """
        return open_image(self.image_path(key))

    def truth(self, key: str) -> np.ndarray:
        """The class of every pixel, or `IGNORE`: int16 of shape (height, width).

        Raises:
            BadImage: the mask is damaged or holds a value that is no class.
        """
        try:
            values = self.mask(key)
        except (OSError, ValueError, SyntaxError) as error:
            raise BadImage(f"its mask is damaged ({error})") from error
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= _VALUES:
            raise BadImage(f"its mask holds values from {values.min()} to {values.max()}")
        truth = self.table_for(key)[values]
        if (truth == _OUTSIDE).any():
            wrong = values[truth == _OUTSIDE].flat[0]
            raise BadImage(
                f"its mask holds the value {wrong}, which is none of the {len(self.names)} classes"
            )
        return truth

    def __len__(self) -> int:
        return len(self.keys)


def open_image(path: Path) -> Image.Image:
    """An image in RGB, decoded whole.

    Raises:
        BadImage: it cannot be.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(path), path.name)
        raise BadImage(f"it cannot be read ({reason})") from error


def read_mask(path: Path) -> np.ndarray:
    """A mask's values: palette numbers or grey levels, of shape (height, width).

    Raises:
        ValueError: it has several channels.
    """
    with Image.open(path) as image:
        values = np.array(image)
    if values.ndim != 2:
        raise ValueError(f"it has {values.shape[2]} channels, and one is what classes need")
    return values.astype(np.uint8) if values.dtype == bool else values  # a mask of 0 and 1 only


def find_folder(
    root: Path, places: Sequence[str], needed: Sequence[str], about: Description
) -> Path:
    """The first of several places below the root that holds all that is needed.

    Args:
        root: given with --data.
        places: folders below it in which people keep the data set; `.` is the root itself.
        needed: files and folders that it consists of; alternatives are divided by `|`.
        about: for the message.

    Raises:
        UserError: none does.
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
        what = f"{about.title} is not there: it needs {_or(needed)}"
    else:
        what = f"{about.title} is half there: {best[1]} lacks {_or(best[2])}"
    raise UserError(f"{what}; looked in {looked}; get it from {about.source}")


def check_pairs(benchmark: Benchmark, masks: dict[str, Path] | None = None) -> None:
    """That all files are there, and that some masks have their images' size.

    Args:
        benchmark: its `keys` are known.
        masks: the mask of each key, where masks are files.

    Raises:
        UserError: files are missing, or a mask has another size than its image.
    """
    about = benchmark.description
    if not benchmark.keys:
        raise UserError(f"{about.title} under {benchmark.root} lists no image")
    for what, paths in (
        ("images", [benchmark.image_path(key) for key in benchmark.keys]),
        ("masks", list((masks or {}).values())),
    ):
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise UserError(
                f"{about.title} is half there: {len(missing):,} of {len(paths):,} {what} are "
                f"missing, the first is {missing[0]}; get it from {about.source}"
            )
    for key in list(benchmark.keys)[:: max(1, len(benchmark.keys) // _CHECKED)] if masks else ():
        try:
            with Image.open(benchmark.image_path(key)) as image, Image.open(masks[key]) as mask:
                sizes = image.size, mask.size
        except (OSError, ValueError, SyntaxError):
            continue  # a damaged one is named at the end of the run, with all others
        if sizes[0] != sizes[1]:
            raise UserError(
                f"{masks[key]} is {_pixels(sizes[1])}, and its image {_pixels(sizes[0])}: "
                f"masks of {about.title} have the size of their images"
            )


def _or(items: Sequence[str]) -> str:
    return ", ".join(item.replace("|", " or ") for item in items)


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"
