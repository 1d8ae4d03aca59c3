"""What a segmentation benchmark is: classes, images, and the ground truth of their pixels.

`benchmark_data/NAME.yaml` names the classes, their mask values and the values that are ignored. The
readers in `mask_folders.py` and `coco_object.py` know the folder layouts.

Shapes: H, W height and width of an image in pixels; C classes, the background included.
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
from training.images import decode_image

DATA = Path(__file__).with_name("benchmark_data")
BACKGROUND = "background"
_OUTSIDE = -2  # a mask value that is neither a class nor ignored
_VALUES = 1 << 16  # possible mask values: masks have 16 bits at most
_CHECKED = 16  # images whose size is compared with their mask's before a run


class BadImage(Exception):
    """An image that cannot be scored; `str(error)` says why. The run continues without it."""


@dataclass(frozen=True)
class Description:
    """The content of `benchmark_data/NAME.yaml`.

    Attributes:
        name: the name that --benchmarks takes.
        title: the name in tables.
        source: where to download the data.
        classes: class names for CLIP's text encoder, without the background.
        background: whether class 0 is a background that contains all that is none of `classes`.
        threshold: background threshold for softmax (Eq. 8), from the released configuration.
        ignore: mask values that are not scored.
        first: mask value of the first of `classes`; the others follow in order.
        raw: mask values of `classes` in the published files, if they differ from converted ones.
        folders: number of classes, if the classes are the data set's folders instead of `classes`.
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
        """Reads the description of one of the paper's benchmarks."""
        return cls.read_file(DATA / f"{name}.yaml", name)

    @classmethod
    def read_file(cls, path: Path, name: str) -> Description:
        """Reads a description from a YAML file.

        Raises:
            UserError: the file cannot be read, or a field is missing or of the wrong type.
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
                    "its classes are not all strings (quote yes, no, on, off and numbers)"
                )
            description.table()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {reason(error)}") from error
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML: {reason(error)}") from error
        except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"{path} is not a valid benchmark description: {reason(error)}"
            ) from error
        return description

    def table(self, raw: bool = False) -> np.ndarray:
        """The class of every mask value, int16 of shape (65536,).

        Args:
            raw: for masks as published instead of converted ones.
        """
        table = np.full(_VALUES, IGNORE if raw else _OUTSIDE, np.int16)  # (65536,)
        table[list(self.ignore)] = IGNORE
        count = len(self.classes) or self.folders
        first_class = int(self.background)
        values = list(self.raw) if raw else [self.first + i for i in range(count)]
        table[values] = np.arange(first_class, first_class + count)
        if self.background:
            table[0] = 0
        return table


class Benchmark(ABC):
    """Images and their ground truth.

    Args:
        description: the classes.
        root: the folder given with --data.

    Attributes:
        description: see above.
        keys: a unique name per image, in order.

    Raises:
        UserError: the folder is missing or incomplete; the message names what is missing, the folders
            that were searched, and the source.
    """

    keys: Sequence[str]

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

    def image(self, key: str) -> Image.Image:
        """Reads an image in RGB.

        Raises:
            BadImage: the file is damaged.
        """
        return open_image(self.image_path(key))

    def truth(self, key: str) -> np.ndarray:
        """The class of every pixel, or `IGNORE`: int16 of shape (H, W).

        Raises:
            BadImage: the mask is damaged or contains a value that is not a class.
        """
        try:
            values = self.mask(key)
        except (OSError, ValueError, SyntaxError) as error:
            raise BadImage(f"its mask is damaged ({error})") from error
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= _VALUES:
            raise BadImage(f"its mask holds values from {values.min()} to {values.max()}")
        truth = self.table_for(key)[values]  # (H, W)
        if (truth == _OUTSIDE).any():
            wrong = values[truth == _OUTSIDE].flat[0]
            raise BadImage(
                f"its mask holds the value {wrong}, which is none of the {len(self.names)} classes"
            )
        return truth

    def __len__(self) -> int:
        return len(self.keys)


def open_image(path: Path) -> Image.Image:
    """Reads and decodes an image, in RGB.

    Raises:
        BadImage: the file is missing, damaged, or not an image.
    """
    try:
        return decode_image(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(path), path.name)
        raise BadImage(f"it cannot be read ({reason})") from error


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask: palette indices or grey levels, integers of shape (H, W).

    Raises:
        ValueError: the file has several channels.
    """
    with Image.open(path) as image:
        values = np.array(image)  # (H, W), or (H, W, channels)
    if values.ndim != 2:
        raise ValueError(f"it has {values.shape[2]} channels instead of one")
    return values.astype(np.uint8) if values.dtype == bool else values  # 1-bit masks become 0 and 1


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
        ("images", [benchmark.image_path(key) for key in benchmark.keys]),
        ("masks", list((masks or {}).values())),
    ):
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise UserError(
                f"{about.title} is incomplete: {len(missing):,} of {len(paths):,} {what} are "
                f"missing, the first is {missing[0]}; get it from {about.source}"
            )
    for key in list(benchmark.keys)[:: max(1, len(benchmark.keys) // _CHECKED)] if masks else ():
        try:
            with Image.open(benchmark.image_path(key)) as image, Image.open(masks[key]) as mask:
                sizes = image.size, mask.size
        except (OSError, ValueError, SyntaxError):
            continue  # damaged files are reported at the end of the run
        if sizes[0] != sizes[1]:
            raise UserError(
                f"{masks[key]} is {_pixels(sizes[1])}, and its image {_pixels(sizes[0])}: "
                "a mask must have the size of its image"
            )


def _or(items: Sequence[str]) -> str:
    return ", ".join(item.replace("|", " or ") for item in items)


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"
