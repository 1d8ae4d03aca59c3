"""Tells how far a run is, from its folder alone, while it goes on or after.

python parsing/status.py data/tags
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The repository, not this folder: `parsing` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pyarrow as pa
import pyarrow.compute as pc

from common.errors import UserError
from parsing.job.metrics import LINE_SECONDS, PUT_SECONDS, read_metrics
from parsing.job.progress import duration
from parsing.job.run_folder import MANIFEST, RunFolder
from parsing.tags import FAILED, OK

RATE_SECONDS = 600  # the rate looks back this far
READ_AT_ONCE = 16  # files
MOST_FAILED_SHARDS = 200  # to open to see why rows have failed
KINDS = 8  # of failures to show
_STATS = re.compile(r"part-(\d+)\.json")
# What differs between failures of one kind: numbers and quotations, except in UTF-8 and `said 500`.
_OWN = re.compile(r"'[^']*'|\"[^\"]*\"|(?<![\w-])(?<!said )\d[\d,.]*(?!\w)")


@dataclass(frozen=True)
class Status:
    """What a run's folder says.

    Attributes:
        manifest: the run's manifest.
        statuses: committed rows by status.
        shards: committed shards.
        tokens: written by models for these rows.
        total: captions of the whole run; None while the input is being read.
        state: `finished`, `running` or `stopped`.
        sign: Unix time of the last sign of life.
        rate, token_rate: captions and output tokens a second, of the last minutes; None if unknown.
        engines: number that take captions now.
        failures: failed rows by kind, most frequent first.
        unread: shards with failures that were not opened for `failures`.
    """

    manifest: dict[str, Any]
    statuses: Counter[str]
    shards: int
    tokens: int
    total: int | None
    state: str
    sign: float
    rate: float | None
    token_rate: float | None
    engines: int
    failures: list[tuple[str, int]] = field(default_factory=list)
    unread: int = 0

    @property
    def done(self) -> int:
        return sum(self.statuses.values())

    @property
    def seconds_left(self) -> float | None:
        if self.state == "finished" or self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate


def read_status(url: str, now: float | None = None) -> Status:
    """The status of the run in a folder; nothing is changed, and no lock is taken.

    Args:
        url: local path or fsspec URL.
        now: Unix time; for tests.

    Raises:
        UserError: there is no run, or its manifest is damaged.
    """
    now = time.time() if now is None else now
    run = RunFolder(url)
    if run.folder.fs.isfile(run.folder.root):
        raise UserError(f"{url} is a file: give the folder of a run")
    names = run.folder.names()
    if MANIFEST not in names:
        what = "holds no run: it has no manifest.json" if names else "is empty or not there"
        raise UserError(f"{url or '.'} {what}")
    manifest = run.manifest()
    stats = _read_stats(run, names)
    lines = read_metrics(run.folder)
    statuses = Counter()
    for each in stats.values():
        statuses.update(each["statuses"])
    commits = sorted(
        (each["committed"], each["rows"]) for each in stats.values() if "committed" in each
    )
    sign = max(
        [line["time"] for line in lines[-1:]]
        + [moment for moment, _ in commits[-1:]]
        + [
            session.get("began", 0) + session.get("seconds", 0)
            for session in manifest.get("sessions", [])[-1:]
        ]
        + [0.0]
    )
    quiet = 4 * (LINE_SECONDS if run.folder.is_local else PUT_SECONDS)
    state = "running" if now - sign < quiet else "stopped"
    if manifest.get("finished"):
        state = "finished"
    rate, token_rate = _rates(lines, commits)
    failures, unread = _failures(run, stats)
    return Status(
        manifest=manifest,
        statuses=statuses,
        shards=len(stats),
        tokens=sum(each.get("output_tokens", 0) for each in stats.values()),
        total=_total(manifest, lines, statuses),
        state=state,
        sign=sign,
        rate=rate,
        token_rate=token_rate,
        engines=lines[-1].get("engines", 0) if lines and state == "running" else 0,
        failures=failures,
        unread=unread,
    )


def report(status: Status, now: float | None = None) -> str:
    """The status in a few lines, to be read by a person."""
    now = time.time() if now is None else now
    manifest, done = status.manifest, status.done
    sessions = manifest.get("sessions", [])
    model = manifest.get("model") or manifest["fingerprint"].get("parser")
    ago = f"{duration(max(now - status.sign, 0))} ago" if status.sign else ""
    sign = f"last sign of life {ago}" if ago else "without a sign of life"
    state = {
        "running": f"running, {sign}",
        "stopped": f"stopped, {sign}: the same command goes on from here",
        "finished": f"finished {ago}".rstrip(),
    }[status.state]
    share = f" of {status.total:,} ({done / max(status.total, 1):.1%})" if status.total else ""
    of = f" of {manifest['shards']:,}" if "shards" in manifest else ""
    unread = "" if of else ", the input is not read to its end yet"
    lines = [
        f"{model}: {state}",
        f"{done:,}{share} captions in {status.shards:,}{of} shards{unread}",
    ]
    if status.rate:
        tokens = f", {status.token_rate:,.0f} tokens/s out" if status.token_rate else ""
        engines = f", {status.engines} engines" if status.engines else ""
        lines.append(f"{status.rate:,.1f} captions/s{tokens}{engines}")
    if (left := status.seconds_left) is not None:
        lines.append(
            f"{duration(left)} left" + (" once it runs" if status.state != "running" else "")
        )
    lines.append(_cost(status, sessions))
    odd = {name: n for name, n in status.statuses.items() if n and name != OK}
    lines.append(", ".join(f"{n:,} {name}" for name, n in sorted(odd.items())) or "no failures")
    lines += [f"  {count:,} x {kind}" for kind, count in status.failures[:KINDS]]
    if status.unread:
        lines.append(f"  and those of {status.unread:,} more shards, not read here")
    return "\n".join(lines)


def _cost(status: Status, sessions: list[dict[str, Any]]) -> str:
    gpus = max((session.get("gpus_an_actor", 0) for session in sessions), default=0)
    hours = sum(s.get("actor_hours", 0) * max(s.get("gpus_an_actor", 0), 1) for s in sessions)
    unit = "GPU-hours" if gpus else "engine-hours"
    text = f"{hours:,.2f} {unit} in {len(sessions)} start{'s' * (len(sessions) != 1)}"
    if status.state != "finished" and status.total and 0 < status.done < status.total:
        text += f", about {hours * status.total / status.done:,.2f} in all"
    return text


def _read_stats(run: RunFolder, names: Sequence[str]) -> dict[int, dict[str, Any]]:
    """Stats of committed shards by number; a shard's tags are not opened."""
    present = set(names)
    shards = [int(match[1]) for name in names if (match := _STATS.fullmatch(name))
              and name.replace(".json", ".parquet") in present]  # fmt: skip

    def read(shard: int) -> dict[str, Any] | None:
        try:
            found = run.stats(shard)
        except (UserError, OSError):  # cut off, or parsed again at this moment
            return None
        return found if isinstance(found, dict) and {"rows", "statuses"} <= found.keys() else None

    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        found = dict(zip(shards, pool.map(read, shards), strict=True))
    return {shard: stats for shard, stats in found.items() if stats is not None}


def _rates(
    lines: list[dict[str, Any]], commits: list[tuple[float, int]]
) -> tuple[float | None, float | None]:
    """Captions and tokens a second of the last minutes in which the run went on."""
    if lines:
        last = lines[-1]
        recent = [line for line in lines if line["start"] == last["start"] and line["captions"]
                  and last["time"] - line["time"] <= RATE_SECONDS]  # fmt: skip
        if len(recent) > 1 and (seconds := last["time"] - recent[0]["time"]) > 0:
            pace = {name: (last.get(name, 0) - recent[0].get(name, 0)) / seconds
                    for name in ("captions", "tokens")}  # fmt: skip
            if pace["captions"] > 0:
                return pace["captions"], pace["tokens"] or None
    recent = [each for each in commits if commits[-1][0] - each[0] <= RATE_SECONDS]
    if len(recent) > 1 and (seconds := recent[-1][0] - recent[0][0]) > 0:
        return sum(rows for _, rows in recent[1:]) / seconds, None
    return None, None


def _total(
    manifest: dict[str, Any], lines: list[dict[str, Any]], statuses: Counter[str]
) -> int | None:
    if manifest.get("finished"):
        return sum(statuses.values())
    known = [line["total"] for line in lines if line.get("total") is not None]
    return known[-1] if known else None


def _failures(
    run: RunFolder, stats: dict[int, dict[str, Any]]
) -> tuple[list[tuple[str, int]], int]:
    """Failed rows by the common text of their errors, and the number of shards not opened."""
    shards = [shard for shard, each in sorted(stats.items()) if each["statuses"].get(FAILED)]
    opened = shards[:MOST_FAILED_SHARDS]

    def read(shard: int) -> list[str]:
        try:
            table = run.read(shard, ["status", "error"])
        except (OSError, KeyError, pa.ArrowException):
            return []
        return table.filter(pc.equal(table["status"], FAILED))["error"].to_pylist()

    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        errors = [error for found in pool.map(read, opened) for error in found]
    kinds = Counter(_OWN.sub("…", error or "no reason given") for error in errors)
    return kinds.most_common(), len(shards) - len(opened)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where the folder holds no run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", help="--output of the run: a folder or a URL")
    try:
        print(report(read_status(parser.parse_args(arguments).folder)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
