"""What `labels/build_vocab.py` and the label reader cost, beside the ways one would do without them.

    python workflows/benchmarks/labels.py                    # 12M captions, 55M tags; 3 GB of disk
    python workflows/benchmarks/labels.py --large 48000000   # and four times that; 12 GB of disk
    python workflows/benchmarks/labels.py --rows 200000 --small 100000        # a quick look

Tags are generated (`zipf_tags.py`) into --folder and kept there for the next call. Every measurement
is a process of its own, so that its peak of resident memory is its own; seconds are medians over
--repeats, and CPU seconds (start of the process included) tell how far other work on the machine
was in the way. The bare query counts the same Parquet with one Polars group-by per kind and does nothing else.
"""

from __future__ import annotations

import argparse
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

from parsing.errors import UserError
from workflows.benchmarks import label_parts
from workflows.benchmarks.zipf_tags import write_run

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        rows: captions of the main measurement.
        large: captions of the one that shows how time and memory grow; None leaves it out.
        small: captions of the comparison with Python and pandas.
        distinct: tags to draw from.
        shard_rows: captions per shard.
        repeats: of each measurement; the large one is done once.
        folder: where generated tags are kept.
    """

    rows: int = 12_000_000
    large: int | None = None
    small: int = 1_000_000
    distinct: int = 500_000
    shard_rows: int = 50_000
    repeats: int = 3
    folder: str = str(Path(tempfile.gettempdir()) / "tagalign-labels")

    def __post_init__(self) -> None:
        if (
            min(
                self.rows, self.large or 1, self.small, self.distinct, self.shard_rows, self.repeats
            )
            < 1
        ):
            raise UserError("rows, tags, shards and repeats must all be at least 1")
        if self.distinct > 70**4:
            raise UserError("--distinct: there are not that many made-up words")

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
    """Reads the tags once: what is measured is the work, not a disk that is read for the first time."""
    for file in sorted(tags.glob("**/*.parquet")):
        file.read_bytes()


def run(settings: Settings) -> None:
    """Prints the tables as they come."""
    tags, out = settings.tags(settings.rows), Path(settings.folder) / "out" / "x.parquet"
    warm(tags)
    print(f"\n{settings.rows:,} captions, {os.cpu_count()} cores\n")
    print(f"| {'':42} | seconds |  CPU s  | peak GB |")
    print(f"|{'-' * 44}|--------:|--------:|--------:|")
    bare = _row("bare Polars query: count only", measure("bare", tags, out, settings.repeats))
    count = _row("count and choose the vocabulary", measure("count", tags, out, settings.repeats))
    build = _row(
        "tags to label file (the whole command)", measure("build", tags, out, settings.repeats)
    )
    if settings.large:
        large_tags = settings.tags(settings.large)
        warm(large_tags)
        large_out = out.with_name("large.parquet")
        large = _row(f"the same for {settings.large:,}", measure("build", large_tags, large_out, 1))
        growth = f"x{large.seconds / build.seconds:.2f} the time, x{large.peak / build.peak:.2f} the memory"
        growth += f", x{large.cpu / build.cpu:.2f} the CPU time"
        print(f"\n{settings.large / settings.rows:.2f} times the captions: {growth}")
    print(f"\ncounting takes x{count.seconds / bare.seconds:.2f} of the bare query")
    _sizes(measure("sizes", tags, out, 1).more)
    _reader(measure("reader", tags, out, 1).more)
    _small(settings, out)


def _row(name: str, measured: Measured) -> Measured:
    print(
        f"| {name:42} | {measured.seconds:7.2f} | {measured.cpu:7.2f} | {measured.peak:7.2f} |",
        flush=True,
    )
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
    print(f"\nreader of {found['images']:,} images")
    print(
        f"  first opening  {found['first']:8.2f} s, peak of private memory {found['building']:.0f} MB"
    )
    print(f"  later openings {found['later'] * 1000:8.1f} ms")
    print(f"  one key at a time {found['single']:12,.0f} look-ups/s")
    print(f"  batches of 1024   {found['batched']:12,.0f} look-ups/s")
    print(
        f"  private memory {found['anonymous']:8.0f} MB; mapped and shared {found['mapped']:.0f} MB"
    )


def _small(settings: Settings, out: Path) -> None:
    tags = settings.tags(settings.small)
    print(f"\n{settings.small:,} captions\n")
    print(
        "| tags to                     | ours    | Python  | pandas  | Python/ours | pandas/ours |"
    )
    print(
        "|-----------------------------|--------:|--------:|--------:|------------:|------------:|"
    )
    # In turns, so that a busy moment of the machine falls on all three.
    rounds = [
        {who: measure(who, tags, out, 1) for who in ("ours", "python", "pandas")}
        for _ in range(settings.repeats)
    ]
    for name, step in (("vocabulary and labels", "labels"), ("... written to a file", "written")):
        ours, python, pandas = (
            statistics.median(each[who].more[step] for each in rounds)
            for who in ("ours", "python", "pandas")
        )
        print(
            f"| {name:27} | {ours:5.2f} s | {python:5.2f} s | {pandas:5.2f} s "
            f"| {python / ours:10.1f}x | {pandas / ours:10.1f}x |"
        )
    digests = {who: rounds[0][who].more["digest"] for who in rounds[0]}
    print(
        "all three give the same labels"
        if len(set(digests.values())) == 1
        else f"DIFFER: {digests}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = Settings()
    for name in ("rows", "large", "small", "distinct", "shard_rows", "repeats"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name)
        )
    parser.add_argument("--folder", default=defaults.folder)
    try:
        run(Settings(**vars(parser.parse_args(arguments))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
