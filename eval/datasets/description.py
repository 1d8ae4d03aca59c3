"""The description of a benchmark: `benchmark_data/NAME.yaml`, or a user's `benchmark.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.errors import UserError, reason
from eval.confusion import IGNORE

DATA = Path(__file__).with_name("benchmark_data")
OUTSIDE = -2  # a mask value that is neither a class nor ignored
VALUES = 1 << 16  # possible mask values: masks have 16 bits at most


@dataclass(frozen=True)
class Description:
    """The content of `benchmark_data/NAME.yaml`.

    Attributes:
        name: the name that --benchmarks takes.
        title: the name in tables.
        source: where to download the data.
        classes: class names for CLIP's text encoder, without the background.
        background: whether class 0 is a background that contains all that is none of `classes`.
        threshold: background threshold for softmax (Eq. 8), from the released configuration; in a user's
            folder, for any form of Eq. 8.
        ignore: mask values that are not scored.
        first: mask value of the first of `classes`; the others follow in order.
        raw: mask values of `classes` in the published files, if they differ from converted ones.
        raw_ignore: mask values in the published files that are not scored; `ignore` if empty.
        folders: number of classes, if the classes are the data set's folders instead of `classes`.
        names: other names of some classes, by class: one, or several, of which the best counts.
        background_words: names of things in the background, for `--background words`.
        own: whether it describes a user's folder.
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
    raw_ignore: tuple[int, ...] = ()
    folders: int = 0
    names: dict[str, Any] = field(default_factory=dict)
    background_words: tuple[str, ...] = ()
    own: bool = False

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
            description.check()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {reason(error)}") from error
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML: {reason(error)}") from error
        except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"{path} is not a valid benchmark description: {reason(error)}"
            ) from error
        return description

    def check(self) -> None:
        """Checks the fields that a person writes.

        Raises:
            ValueError: a field is of another type, a class has no name, two have the same, or a mask value has two meanings.
        """
        for name, kinds, what in (
            ("title", str, "a text"),
            ("source", str, "a text"),
            ("background", bool, "true or false"),
            ("threshold", int | float | None, "a number from 0 to 1"),
            ("first", int, "a whole number"),
            ("classes", tuple, "a list"),
            ("ignore", tuple, "a list"),
            ("background_words", tuple, "a list"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
                raise ValueError(f"its {name} is {value!r}, not {what}")
        if not isinstance(self.names, dict):
            raise ValueError(f"its names are {self.names!r}, not names by class")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"its threshold is {self.threshold}, not a number from 0 to 1")
        several = [one for value in self.names.values() for one in _listed(value)]
        for what, names in (
            ("classes", self.classes),
            ("names", several),
            ("background_words", self.background_words),
        ):
            if not all(isinstance(one, str) and one.strip() for one in names):
                raise ValueError(
                    f"its {what} are not all strings (quote yes, no, on, off and numbers)"
                )
        if twice := [one for one in self.classes if self.classes.count(one) > 1]:
            raise ValueError(f"the class {twice[0]} is named twice")
        if strange := sorted(set(self.names) - set(self.classes)):
            raise ValueError(f"its names are of {strange[0]}, which is none of its classes")
        count = len(self.classes) or self.folders
        if not count:
            raise ValueError("it names no classes")
        for one in (*self.ignore, self.first, self.first + count - 1):
            if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < VALUES:
                raise ValueError(
                    f"the mask value {one!r} is not a whole number from 0 to {VALUES - 1}"
                )
        for meaning, values in (("a class", range(self.first, self.first + count)),
                                ("background", (0,) if self.background else ())):  # fmt: skip
            if both := sorted(set(self.ignore) & set(values)):
                raise ValueError(f"the mask value {both[0]} is both {meaning} and ignored")
        if self.background and self.first <= 0 < self.first + count:
            raise ValueError("the mask value 0 is both a class and background")
        self.table()

    def table(self, raw: bool = False) -> np.ndarray:
        """The class of every mask value, int16 of shape (65536,).

        Args:
            raw: for masks as published instead of converted ones.
        """
        table = np.full(VALUES, OUTSIDE, np.int16)  # (65536,)
        table[list((raw and self.raw_ignore) or self.ignore)] = IGNORE
        count = len(self.classes) or self.folders
        first_class = int(self.background)
        values = list(self.raw) if raw else [self.first + i for i in range(count)]
        table[values] = np.arange(first_class, first_class + count)
        if self.background:
            table[0] = 0
        return table


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
