"""Figures of a run while it goes on: `metrics.jsonl` in its folder, and Ray's metrics for Prometheus.

One line of the file, cumulative within one start of the run:

    {"time": 1790000000.0, "start": 1789999000.0, "captions": 5200, "tokens": 27800, "failed": 3,
     "committed": 4000, "total": 12423374, "queued": 2, "engines": 4, "actor_hours": 0.61}

`captions` and `tokens` (written by models) count what engines have finished, `committed` and `failed`
rows that are on disk, all starts together; `queued` are pieces of shards that wait for an engine,
`total` the captions of the run, null while the input is being read.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from common.storage import Folder

FILE = "metrics.jsonl"
LINE_SECONDS = 15.0  # between two lines
PUT_SECONDS = 120.0  # between two uploads of the whole file, where files cannot be appended to
_RAY_SECONDS = 2.0


class Metrics:
    """Writes the figures of one start. A failure to write them never ends the run.

    Args:
        folder: of the run, held by this process.
        began: `time.time` of the process's start.
        committed, failed: rows that earlier starts have left.
    """

    def __init__(self, folder: Folder, began: float, committed: int = 0, failed: int = 0):
        self._lines = _Lines(folder)
        self._ray = _RayMetrics(folder.url.rstrip("/").rpartition("/")[2], failed)
        self._figures: dict[str, Any] = {
            "time": began,
            "start": began,
            "captions": 0,
            "tokens": 0,
            "failed": failed,
            "committed": committed,
            "total": None,
            "queued": 0,
            "engines": 0,
            "actor_hours": 0.0,
        }
        self._lined = self._told = 0.0

    def committed(self, rows: int, failed: int) -> None:
        """Adds the rows of a committed shard, and how many failed; negative where a retry mended rows."""
        self._figures["committed"] += rows
        self._figures["failed"] += failed

    def expect(self, total: int) -> None:
        """Notes how many captions the input has, once it has been read."""
        self._figures["total"] = total

    def update(
        self, captions: int, tokens: int, queued: int, engines: int, actor_seconds: float
    ) -> None:
        """Takes what engines have finished in this start, and the present figures; see the module."""
        self._figures |= {
            "captions": max(captions, self._figures["captions"]),
            "tokens": max(tokens, self._figures["tokens"]),
            "queued": queued,
            "engines": engines,
            "actor_hours": round(actor_seconds / 3600, 4),
        }
        now = time.monotonic()
        if now - self._told >= _RAY_SECONDS:
            self._told = now
            self._ray.tell(self._figures)
        if now - self._lined >= LINE_SECONDS:
            self._lined = now
            self._line()

    def close(self) -> None:
        """Writes a last line."""
        self._ray.tell(self._figures | {"queued": 0, "engines": 0})
        self._line()
        self._lines.close()

    def _line(self) -> None:
        self._figures["time"] = round(time.time(), 3)
        self._lines.add(self._figures)


def read_metrics(folder: Folder) -> list[dict[str, Any]]:
    """All lines of a run's metrics, oldest first; a line that is cut off or damaged is left out."""
    try:
        data = folder.read(FILE)
    except FileNotFoundError:
        return []
    found = []
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            figures = json.loads(line)
            if _are_figures(figures):
                found.append(figures)
    return found


def _are_figures(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    needed = [found.get(name) for name in ("time", "start", "captions")]
    numbers = all(isinstance(value, int | float | None) for value in found.values())
    return numbers and None not in needed


class _Lines:
    """The file: appended to on a local disk, written as a whole to an object store."""

    def __init__(self, folder: Folder):
        self._folder = folder
        self._lines = [] if folder.is_local else [_line(each) for each in read_metrics(folder)]
        self._put = time.monotonic()
        if folder.is_local:
            self._mend()

    def add(self, figures: dict[str, Any]) -> None:
        if self._folder.is_local:
            with (
                contextlib.suppress(OSError),  # a full disk: the run itself will say so
                open(self._folder.path(FILE), "ab") as file,
            ):
                file.write(_line(figures))
            return
        self._lines.append(_line(figures))
        if time.monotonic() - self._put >= PUT_SECONDS:
            self.close()

    def close(self) -> None:
        if not self._folder.is_local:
            self._put = time.monotonic()
            with contextlib.suppress(Exception):  # each store raises its own
                self._folder.fs.pipe_file(self._folder.path(FILE), b"".join(self._lines))

    def _mend(self) -> None:
        """Ends a line that was cut off, so that the next one stands alone."""
        with contextlib.suppress(OSError), open(self._folder.path(FILE), "r+b") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _line(figures: dict[str, Any]) -> bytes:
    return (json.dumps(figures) + "\n").encode()


class _RayMetrics:
    """Ray's own metrics, which it serves to Prometheus on every node's metrics port.

    Args:
        run: the value of the tag `run`, which tells series apart.
        failed: rows that earlier starts have counted.
    """

    def __init__(self, run: str, failed: int):
        from ray.util.metrics import Counter, Gauge

        def make(kind, name: str, about: str):
            metric = kind(f"tagalign_{name}", about, tag_keys=("run",))
            metric.set_default_tags({"run": run})
            return metric

        self._counters = {
            "captions": make(Counter, "captions", "captions that engines have finished"),
            "tokens": make(Counter, "output_tokens", "tokens that models have written"),
            "failed": make(Counter, "failures", "rows that were written with the status failed"),
        }
        self._gauges = {
            "queued": make(Gauge, "queue", "pieces of shards that wait for an engine"),
            "engines": make(Gauge, "engines", "engines that take captions"),
        }
        self._counted: dict[str, float] = {"captions": 0, "tokens": 0, "failed": failed}

    def tell(self, figures: dict[str, Any]) -> None:
        for name, counter in self._counters.items():
            if figures[name] > self._counted[name]:
                counter.inc(figures[name] - self._counted[name])
                self._counted[name] = figures[name]
        for name, gauge in self._gauges.items():
            gauge.set(figures[name])
