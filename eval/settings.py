"""Settings of segment.py, refer.py and show.py; every field is a flag of the same name."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from common.errors import UserError
from common.flags import add_flags, comma_separated, given, setting
from eval.datasets.benchmark_list import BENCHMARKS, check_name
from eval.datasets.referring import SPLITS
from eval.inference.class_embeddings import BARE
from eval.inference.protocols import inference_of
from eval.inference.settings import SIGMOID, Inference
from eval.referring_scores import ABSOLUTE, RELATIVE, RULES
from training.dense import BASELINES
from training.surgery import SURGERY

T = TypeVar("T")
_BASELINES = ", ".join(BASELINES)
MOST_TEXTS = 255  # a mask of eight bits has a number for each, and one for the background


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """CLIP's weights, as `training.dense.load_dense` takes them.

    None is the run's own model, and the paper's for a baseline.
    """

    model: str | None = setting(
        None, "open_clip name, hf-hub:ORG/REPO, or a saved model's folder", metavar="NAME"
    )
    weights: str | None = setting(
        None, "open_clip's name of the weights, or a local file", metavar="NAME"
    )
    quick_gelu: bool | None = setting(
        None, "QuickGELU activations, as in OpenAI's training; default: what the weights need"
    )


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(ModelSettings):
    """What segment.py and refer.py share.

    Raises:
        UserError: a value is out of its range, or `name` cannot be a folder's name.
    """

    data: str = setting(".", "folder that holds the data sets", metavar="DIR")
    out: str = setting("data/eval", "results go to DIR/NAME/BENCHMARK", metavar="DIR")
    name: str | None = setting(
        None, "name of the run in tables and folders; default: its folder's", metavar="NAME"
    )
    cache: str = setting("data/cache", "folder that keeps text embeddings", metavar="DIR")
    limit: int | None = setting(
        None, "score only the first N images of each benchmark", metavar="N"
    )
    overwrite: bool = setting(False, "discard results of other settings in --out")

    def __post_init__(self) -> None:
        _at_least("--limit", self.limit, 1)
        if self.name is not None and (not self.name or "/" in self.name):
            raise UserError(f"--name is the name of one run's folder, not '{self.name}'")


@dataclass(frozen=True)
class SegmentSettings(BenchmarkSettings):
    """Settings of segment.py.

    Raises:
        UserError: as `BenchmarkSettings`; a benchmark is unknown; or nothing is named, or named twice.
    """

    runs: tuple[str, ...] = setting(
        (),
        f"run's folder, or a baseline: {_BASELINES}; repeat for several",
        flag="--run",
        action="append",
        metavar="DIR",
    )
    benchmarks: tuple[str, ...] = setting(
        (),
        "comma-separated: names, or folders with a benchmark.yaml",
        nargs=None,
        type=comma_separated,
        metavar="NAMES",
    )
    overlays: int = setting(8, "images to draw with their classes", metavar="N")
    workers: int = setting(4, "threads that read images", metavar="N")
    inference: Inference = field(default_factory=Inference)

    def __post_init__(self) -> None:
        _check_benchmarks(self.benchmarks, BENCHMARKS)
        for name in self.benchmarks:
            check_name(name)
        _all_different(map(benchmark_label, self.benchmarks), "benchmarks", "with another --out")
        super().__post_init__()
        _at_least("--overlays", self.overlays, 0)
        _at_least("--workers", self.workers, 1)
        if not self.runs:
            raise UserError("no run named (--run)")
        if self.name is not None and len(self.runs) > 1:
            raise UserError(
                f"--name is the name of one run's folder, and {len(self.runs)} are given"
            )
        _all_different(map(self.label, self.runs), "runs", "with --name")

    def label(self, run: str) -> str:
        """The name of a run in tables and folders."""
        return run_label(run) if self.name is None else self.name


@dataclass(frozen=True)
class ReferSettings(BenchmarkSettings):
    """Settings of refer.py. `inference` is of probability `sigmoid`, without PAMR.

    Raises:
        UserError: as `BenchmarkSettings`; a benchmark or rule is unknown; or `inference` does not fit.
    """

    run: str = setting("", f"run's folder, or a baseline: {_BASELINES}", metavar="DIR")
    benchmarks: tuple[str, ...] = setting(
        (),
        f"comma-separated, of {', '.join(SPLITS)}",
        nargs=None,
        type=comma_separated,
        metavar="NAMES",
    )
    rule: str = setting(
        ABSOLUTE,
        f"which pixels are the mask. {ABSOLUTE}: those whose probability (Eq. 8) reaches --threshold, "
        f"by default {RULES[ABSOLUTE]}; {RELATIVE}: those whose similarity, scaled to [0, 1] in each "
        f"image, reaches it, by default {RULES[RELATIVE]}",
        metavar="NAME",
    )
    inference: Inference = field(
        default_factory=lambda: Inference(probability=SIGMOID, templates=BARE)
    )

    def __post_init__(self) -> None:
        _check_benchmarks(self.benchmarks, SPLITS)
        for name in self.benchmarks:
            if name not in SPLITS:
                raise UserError(f"there is no benchmark '{name}': choose from {', '.join(SPLITS)}")
        super().__post_init__()
        if not self.run:
            raise UserError("no run named (--run)")
        if self.rule not in RULES:
            raise UserError(f"--rule is one of {', '.join(RULES)}, not '{self.rule}'")
        if self.inference.probability != SIGMOID:
            raise UserError(
                "--probability must be sigmoid: a softmax over a single expression is always 1"
            )
        if self.inference.pamr:
            raise UserError("--pamr is for eval/segment.py only")

    @property
    def label(self) -> str:
        """The name of the run in tables and folders."""
        return run_label(self.run) if self.name is None else self.name


@dataclass(frozen=True)
class ShowSettings(ModelSettings):
    """Settings of show.py; `eval.any_words.Rule` says what is background.

    Raises:
        UserError: no image or text is named, the image is missing, or a text is empty; not with `serve`.
    """

    runs: tuple[str, ...] = setting(
        (SURGERY,),
        f"runs' folders, or baselines: {_BASELINES}; default {SURGERY}",
        flag="--run",
        metavar="DIR",
    )
    image: str = setting("", "image to segment", metavar="FILE")
    texts: tuple[str, ...] = setting(
        (), "class names or phrases to look for", flag="--text", metavar="TEXT"
    )
    out: str = setting("data/show", "folder for the pictures", metavar="DIR")
    serve: bool = setting(False, "open a page on this machine to try pictures and words (Gradio)")
    port: int = setting(7860, "port of the page", metavar="N")
    inference: Inference = field(default_factory=Inference)

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("no run named (--run)")
        if not 0 < self.port < 65_536:
            raise UserError(f"--port is a number up to 65535, not {self.port}")
        if self.serve:
            return
        for what, value in (("image", self.image), ("text", self.texts)):
            if not value:
                raise UserError(f"no {what} named (--{what})")
        if any(not text.strip() for text in self.texts):
            raise UserError("--text is empty")
        if len(self.texts) > MOST_TEXTS:
            raise UserError(f"--text takes at most {MOST_TEXTS} texts, not {len(self.texts)}")
        if not Path(self.image).is_file():
            raise UserError(f"there is no image {self.image}")


def parse_flags(
    kind: type[T],
    description: str,
    arguments: Sequence[str] | None = None,
    inference: Mapping[str, Any] | None = None,
) -> T:
    """Settings of one of the commands from its command line.

    Args:
        kind: the class of the settings.
        description: head of the help.
        arguments: None takes `sys.argv`.
        inference: values of `Inference` that this command has in place of any protocol's.

    Raises:
        UserError: as `kind` and `Inference`.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model, shared = (
        {one.name for one in fields(each)} for each in (ModelSettings, BenchmarkSettings)
    )
    own = {one.name for one in fields(kind)} - shared
    add_flags(parser, kind, own)
    add_flags(parser, kind, shared - model)
    group = parser.add_argument_group("model (default: the run's own, the paper's for a baseline)")
    add_flags(group, kind, model)
    steps = {one.name for one in fields(Inference)} - {"protocol"}
    group = parser.add_argument_group("inference (default: the protocol's)")
    add_flags(group, Inference, {"protocol"})
    add_flags(group, Inference, steps, dict.fromkeys(steps) | {"pamr": False} | (inference or {}))
    flags = parser.parse_args(arguments)
    chosen = {
        name: value
        for name, value in given(flags, Inference).items()
        if value is not None and (name, value) != ("pamr", False)
    }
    return kind(**given(flags, kind), inference=inference_of(**chosen))


def run_label(run: str) -> str:
    """The name of a run in tables and folders: the baseline's, or the last part of its path."""
    return run if run in BASELINES else Path(run).resolve().name


def benchmark_label(name: str) -> str:
    """The name of a benchmark in tables and folders: its own, or its folder's."""
    return name if name in BENCHMARKS else Path(name).resolve().name


def _all_different(labels: Iterable[str], what: str, how: str) -> None:
    for label, count in Counter(labels).items():
        if count > 1:
            raise UserError(f"two {what} would be called {label}: score them one by one, {how}")


def _check_benchmarks(names: Sequence[str], known: Sequence[str]) -> None:
    if not names:
        raise UserError(f"no benchmark named (--benchmarks): choose from {', '.join(known)}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the benchmark {name} is named twice")


def _at_least(flag: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UserError(f"{flag} is at least {least}, not {value}")
