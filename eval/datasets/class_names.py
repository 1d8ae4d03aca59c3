"""Which names stand for a benchmark's classes and for its background, before CLIP's text encoder.

`benchmark_data/names/` holds the names that differ from a benchmark's own, and the words for backgrounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, reason
from eval.datasets.benchmarks import RELEASE_NAMES, Benchmark
from eval.datasets.description import DATA

PLAIN_NAMES, SCLIP_NAMES = "plain", "sclip"
THRESHOLD, WORDS = "threshold", "words"
_FOLDER = DATA / "names"
_WORDS_FILE = _FOLDER / "background_words.yaml"


@dataclass(frozen=True)
class ClassNames:
    """The names of a benchmark's classes, without the background.

    Attributes:
        names: of each class, at least one; the best counts.
        words: names of things in the background; empty where a threshold decides.
    """

    names: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every name, those of the background last."""
        return (*(name for names in self.names for name in names), *self.words)

    @property
    def owners(self) -> tuple[int, ...]:
        """The class of each of `all`, from 0; -1 for the background."""
        owners = [number for number, names in enumerate(self.names) for _ in names]
        return (*owners, *(-1 for _ in self.words))


def class_names(
    benchmark: Benchmark, names: str = PLAIN_NAMES, background: str = THRESHOLD
) -> ClassNames:
    """The names of a benchmark's classes.

    Args:
        benchmark: its description may hold several names of a class, and words for its background.
        names: `release`, `plain`, `sclip`, or a YAML file like those in `benchmark_data/names/`: by
            benchmark, a name or a list of names for some of its classes.
        background: `threshold`; `words`, the benchmark's own; or a file with one word a line.

    Raises:
        UserError: there is no such file, it is not of this form, it names an unknown class, or there are
            no words for the benchmark.
    """
    about = benchmark.description
    other = _other_names(names, about.name) | dict(about.names)
    own = benchmark.names
    if unknown := sorted(set(other) - set(own)):
        raise UserError(
            f"{about.title} has no class '{unknown[0]}', which --names {names} gives names for"
        )
    listed = benchmark.names_in(names)
    found = tuple(
        _tuple(other.get(name, other_list)) for name, other_list in zip(own, listed, strict=True)
    )
    words = _words(background, benchmark) if about.background else ()
    return ClassNames(found, words)


def _other_names(names: str, benchmark: str) -> dict[str, Any]:
    if names == PLAIN_NAMES:
        return {}
    file = Path(names)
    if names in (RELEASE_NAMES, SCLIP_NAMES):
        file = _FOLDER / f"{names}.yaml"
    content = _read_yaml(file, "--names")
    for one, classes in content.items():
        if not isinstance(classes, dict) or not all(map(_is_name, classes.values())):
            raise UserError(
                f"{file} (--names) is not names by benchmark and class: see {one} "
                "(quote yes, no, on, off and numbers)"
            )
    return content.get(benchmark, {})


def _words(background: str, benchmark: Benchmark) -> tuple[str, ...]:
    about = benchmark.description
    if background == THRESHOLD:
        return ()
    if background == WORDS:
        words = about.background_words or _read_yaml(_WORDS_FILE, "--background").get(
            about.name, ()
        )
        if not words:
            raise UserError(
                f"there are no words for the background of {about.title}: name a file of words, one a line "
                "(--background FILE), or take --background threshold"
            )
        return tuple(words)
    try:
        lines = Path(background).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--background is {THRESHOLD}, {WORDS} or a file of words: cannot read {background} "
            f"({reason(error)})"
        ) from error
    words = tuple(line.strip() for line in lines if line.strip())
    if not words:
        raise UserError(f"{background} (--background) holds no words")
    return words


def _read_yaml(file: Path, flag: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file} ({flag}): {reason(error)}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{file} ({flag}) is not YAML: {reason(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} ({flag}) is not names by benchmark and class")
    return content


def _is_name(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(one, str) and one.strip() for one in values)


def _tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
