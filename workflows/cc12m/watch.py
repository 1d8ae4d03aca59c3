"""Runs one command and measures it: seconds, memory of all its processes, files that it leaves."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# Seconds between two looks at the processes: few at first, so that a command that ends at once is
# seen as well, more later, since a look at a Ray cluster costs some milliseconds itself.
FIRST_LOOK, LONGEST_PAUSE = 0.02, 0.5


@dataclass(frozen=True)
class Stage:
    """What a command took.

    Attributes:
        name: for people.
        seconds: wall clock.
        cpu_seconds: of processors, all processes together. Exact for a command that waits for its
            children; other processes count as far as they were seen.
        driver_gb: peak of the command's own process, GB of resident memory, by the kernel's count.
        driver_own_gb: peak of that part of it that no other process shares: without Ray's object
            store, which every process of a node has mapped.
        tree_gb: peak of it and all its descendants together, GB; a page that several of them
            share counts once (the sum of their proportional set sizes).
        files, gb: how many files it left and their size.
        said: its output.
    """

    name: str
    seconds: float
    cpu_seconds: float
    driver_gb: float
    driver_own_gb: float
    tree_gb: float
    files: int
    gb: float
    said: str


class StageFailed(Exception):
    """A command ended with another status than 0; `str(error)` is what it said last."""


def watch(name: str, command: Sequence[str], leaves: Path, cwd: Path) -> Stage:
    """Runs a command and watches it.

    Args:
        command: program and arguments.
        leaves: the folder, or the beginning of the path of the files, that it writes.
        cwd: where it runs.

    Raises:
        StageFailed: it does not end with status 0.
    """
    began, before = time.monotonic(), _waited_for()
    family, pause = _Family(), FIRST_LOOK
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            while True:
                try:
                    said, _ = process.communicate(timeout=pause)
                    break
                except subprocess.TimeoutExpired:
                    family.look(process.pid)
                    pause = min(2 * pause, LONGEST_PAUSE)
        except BaseException:
            process.terminate()  # parsing/run.py ends its own Ray then
            raise
    seconds = time.monotonic() - began
    if process.returncode:
        last = said.strip().splitlines()[-1:] or [f"it ended with status {process.returncode}"]
        raise StageFailed(f"{name}: {last[0]}")
    files, size = left(leaves)
    cpu = max(_waited_for() - before, sum(family.cpu.values()))
    return Stage(
        name=name,
        seconds=seconds,
        cpu_seconds=cpu,
        driver_gb=family.driver / 1e9,
        driver_own_gb=family.own / 1e9,
        tree_gb=family.tree / 1e9,
        files=files,
        gb=size / 1e9,
        said=said,
    )


def _waited_for() -> float:
    """Seconds of processors of all processes that this one, and those it waited for, waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _most_resident(pid: int) -> int:
    """Bytes: the kernel sees a peak of milliseconds too; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def left(place: Path) -> tuple[int, int]:
    """Files and bytes in a folder, or of the files whose paths begin so."""
    found = place.rglob("*") if place.is_dir() else place.parent.glob(f"{place.name}*")
    sizes = [path.stat().st_size for path in found if path.is_file()]
    return len(sizes), sum(sizes)


class _Family:
    """A process and its descendants.

    Attributes:
        driver, own, tree: most bytes seen of the process itself, of what it shares with none, and of
            all together.
        cpu: seconds of processors of each process by its id and start.
    """

    def __init__(self) -> None:
        self.driver = self.own = self.tree = 0
        self.cpu: dict[tuple[int, float], float] = {}

    def look(self, pid: int) -> None:
        try:
            parent = psutil.Process(pid)
            self.driver = max(self.driver, _most_resident(pid))
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        total = 0
        for each in family:
            try:
                times = each.cpu_times()
                self.cpu[each.pid, each.create_time()] = times.user + times.system
                memory = each.memory_full_info()
                total += memory.pss
                self.own = max(self.own, memory.uss if each == parent else 0)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        self.tree = max(self.tree, total)
