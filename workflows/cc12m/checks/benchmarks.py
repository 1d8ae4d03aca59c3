"""Benchmarks: each folder has what its reader in `eval` asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from common.errors import UserError
from eval.datasets.benchmark_list import BENCHMARKS, open_benchmark
from eval.datasets.benchmarks import Benchmark
from eval.datasets.referring import SPLITS, ReferringSet
from workflows.cc12m.checks.finding import FAILED, OK, WARNING, Finding

ALL = "all"


def check_benchmarks(names: Sequence[str], root: Path) -> Iterator[Finding]:
    """Opens benchmarks as eval/segment.py does; `all` names the ten."""
    for name in BENCHMARKS if list(names) == [ALL] else names:
        yield from _opened(name, lambda name=name: open_benchmark(name, root), "images")


def check_referring(root: Path) -> Iterator[Finding]:
    """Opens every split of RefCOCO, RefCOCO+ and RefCOCOg as eval/refer.py does."""
    for name in SPLITS:
        yield from _opened(name, lambda name=name: ReferringSet(name, root), "expressions")


def _opened(
    name: str, open_it: Callable[[], Benchmark | ReferringSet], what: str
) -> Iterator[Finding]:
    try:
        opened = open_it()
    except UserError as error:
        yield Finding(FAILED, str(error), name)
        return
    yield Finding(OK, f"{len(opened):,} {what}", name)
    if isinstance(opened, Benchmark):
        yield from (Finding(WARNING, note, name) for note in opened.notes)
