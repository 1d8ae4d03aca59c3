"""What `labels/build_vocab.py` and the label reader cost, beside a bare query, plain Python and pandas.

    python workflows/benchmarks/labels.py                    # 12M captions, 55M tags; 3 GB of disk
    python workflows/benchmarks/labels.py --large 48000000   # and four times that; 12 GB of disk
    python workflows/benchmarks/labels.py --rows 200000 --small 100000        # a quick look

Tags are generated (`zipf_tags.py`) into --folder and kept there for the next call. Every measurement
runs in a process of its own, which has a peak of resident memory of its own. Seconds are medians over
--repeats. CPU seconds (start of the process included) show whether other work on the machine was in
the way. The bare query counts the same Parquet with one Polars group-by per kind and does nothing else.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: a module here is called like a package there.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common.errors import UserError
from common.flags import setting
from workflows.benchmarks import label_parts
from workflows.benchmarks.measuring import table
from workflows.benchmarks.zipf_tags import MOST_WORDS, write_run
from workflows.command import at_least, run_command

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Raises:
        UserError: a number below 1, or more tags than there are made-up words.
    """

    rows: int = setting(12_000_000, "captions of the main measurement", metavar="N")
    large: int | None = setting(
        None, "captions of a measurement that shows how time and memory grow", metavar="N"
    )
    small: int = setting(
        1_000_000, "captions of the comparison with Python and pandas", metavar="N"
    )
    distinct: int = setting(500_000, "tags to draw from", metavar="N")
    shard_rows: int = setting(50_000, "captions per shard", metavar="N")
    repeats: int = setting(3, "of each measurement; the large one is done once", metavar="N")
    folder: str = setting(
        str(Path(tempfile.gettempdir()) / "tagalign-labels"),
        "where generated tags are kept",
        metavar="DIR",
    )

    def __post_init__(self) -> None:
        at_least(self, rows=1, large=1, small=1, distinct=1, shard_rows=1, repeats=1)
        if self.distinct > MOST_WORDS:
            raise UserError(f"--distinct is at most {MOST_WORDS:,}, not {self.distinct:,}")

    def tags(self, rows: int) -> Path:
        """The generated run of that many captions; written first where it is not there yet."""
        folder = Path(self.folder) / f"{rows}-{self.distinct}-{self.shard_rows}"
        if not (folder / "manifest.json").exists():
            print(f"generating {rows:,} captions in {folder} ...", file=sys.stderr)
            write_run(folder, rows, self.distinct, self.shard_rows)
        return folder


@dataclass(frozen=True)
class Measured:
    """Medians over repeats: seconds, CPU seconds, peak resident memory in GB, and the last report."""

    seconds: float
    cpu: float
    peak: float
    more: dict


def measure(part: str, tags: Path, out: Path, repeats: int) -> Measured:
    """Runs one part of `label_parts` in processes of their own."""
    seconds, cpu, peaks, more = [], [], [], {}
    for _ in range(repeats):
        line = [sys.executable, "-m", label_parts.__name__, part, str(tags), str(out)]
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise UserError(f"the measurement of {part} failed")
        more = json.loads(text.splitlines()[-1])
        seconds.append(more.pop("seconds"))
        cpu.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss / 1e6)  # KiB on Linux
    return Measured(*map(statistics.median, (seconds, cpu, peaks)), more)


def warm(tags: Path) -> None:
    """Reads the tags once, so that no measurement includes the first reading from the disk."""
    for file in sorted(tags.glob("**/*.parquet")):
        file.read_bytes()


def run(settings: Settings) -> None:
    """Prints the tables as they come."""
    tags, out = settings.tags(settings.rows), Path(settings.folder) / "out" / "x.parquet"
    warm(tags)
    print(f"\n{settings.rows:,} captions, {os.cpu_count()} cores\n")
    print(f"| {'':42} | seconds |  CPU s  | peak GB |")
    print(f"|{'-' * 44}|--------:|--------:|--------:|")
    parts = {
        "bare": "bare Polars query: count only",
        "count": "count and choose the vocabulary",
        "build": "tags to label file (the whole command)",
    }
    done = {
        part: _row(title, measure(part, tags, out, settings.repeats))
        for part, title in parts.items()
    }
    if settings.large:
        large_tags, build = settings.tags(settings.large), done["build"]
        warm(large_tags)
        large = measure("build", large_tags, out.with_name("large.parquet"), 1)
        _row(f"the same for {settings.large:,}", large)
        print(
            f"\n{settings.large / settings.rows:.2f} times the captions: x"
            f"{large.seconds / build.seconds:.2f} the time, x{large.peak / build.peak:.2f} the "
            f"memory, x{large.cpu / build.cpu:.2f} the CPU time"
        )
    print(f"\ncounting takes x{done['count'].seconds / done['bare'].seconds:.2f} of the bare query")
    _sizes(measure("sizes", tags, out, 1).more)
    _reader(measure("reader", tags, out, 1).more)
    _small(settings, out)


def _row(name: str, measured: Measured) -> Measured:
    figures = (measured.seconds, measured.cpu, measured.peak)
    print(f"| {name:42} | {' | '.join(f'{one:7.2f}' for one in figures)} |", flush=True)
    return measured


def _sizes(found: dict) -> None:
    best = min(found["encodings"], key=found["encodings"].get)
    smallest = found["encodings"][best]
    print(f"\ntag ids in the smallest of Parquet's encodings ({best}): {smallest / 1e6:.1f} MB")
    for name, size in sorted(found["encodings"].items(), key=lambda item: item[1]):
        print(f"  {name:28} {size / 1e6:8.1f} MB")
    print(f"in the label file: {found['tag_ids'] / 1e6:.1f} MB, x{found['tag_ids'] / smallest:.3f}")
    print(
        f"whole file {found['file'] / 1e6:.1f} MB: captions {found['caption'] / 1e6:.1f}, "
        f"keys {found['key'] / 1e6:.1f}, footer with vocabulary {found['footer'] / 1e6:.1f}"
    )


def _reader(found: dict) -> None:
    print(
        f"\nreader of {found['images']:,} images\n"
        f"  first opening  {found['first']:8.2f} s, peak of private memory {found['building']:.0f} MB\n"
        f"  later openings {found['later'] * 1000:8.1f} ms\n"
        f"  one key at a time {found['single']:12,.0f} look-ups/s\n"
        f"  batches of 1024   {found['batched']:12,.0f} look-ups/s\n"
        f"  private memory {found['anonymous']:8.0f} MB; mapped and shared {found['mapped']:.0f} MB"
    )


def _small(settings: Settings, out: Path) -> None:
    tags, sides = settings.tags(settings.small), ("ours", "python", "pandas")
    print(f"\n{settings.small:,} captions\n")
    # In turns, so that a busy moment of the machine falls on all three.
    rounds = [
        {who: measure(who, tags, out, 1).more for who in sides} for _ in range(settings.repeats)
    ]
    rows = [("tags to", *sides, "Python/ours", "pandas/ours")]
    for name, step in (("vocabulary and labels", "labels"), ("... written to a file", "written")):
        seconds = [statistics.median(each[who][step] for each in rounds) for who in sides]
        ratios = (f"{one / seconds[0]:.1f}x" for one in seconds[1:])
        rows.append((name, *(f"{one:.2f} s" for one in seconds), *ratios))
    print(table(rows))
    digests = {who: rounds[0][who]["digest"] for who in sides}
    same = len(set(digests.values())) == 1
    print("all three give the same labels" if same else f"DIFFER: {digests}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, run, arguments, stopped="stopped")


if __name__ == "__main__":
    sys.exit(main())
