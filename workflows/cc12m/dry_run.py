"""All stages over generated captions with the parser that needs no model: a test of machine and disk.

    python workflows/cc12m/dry_run.py --captions 12000000 --folder /data/dry-run
    python workflows/cc12m/dry_run.py --captions 100000             # a minute

Captions are generated as CC12M's own TSV. They go through `parsing/run.py --parser fake` on a real Ray,
through `labels/build_vocab.py` and the reader that the trainer uses, so that driver, shards and labels have
the size that they will have with a real model. What is generated is removed again, unless --keep is given.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common.errors import UserError
from common.flags import setting
from common.storage import Folder
from parsing.source.captions import Selection
from workflows.cc12m.watch import Stage, StageFailed, watch
from workflows.cc12m.zipf_captions import url, write_captions
from workflows.command import at_least, run_command

ROOT = Path(__file__).resolve().parents[2]
BYTES_PER_CAPTION = 900  # of the captions and all that is made of them, with room to spare
CHECKED = 1_000  # labels that are compared with their captions at the end


@dataclass(frozen=True)
class Settings:
    """A dry run.

    Raises:
        UserError: a number below 1.
    """

    captions: int = setting(1_000_000, "rows to generate", metavar="N")
    folder: str = setting(
        "data/cc12m-dry-run", "a new folder for everything that is generated", metavar="DIR"
    )
    k: int = setting(10_000, "tags of each kind in the vocabulary", metavar="N")
    shard_size: int = setting(
        Selection.shard_size, "captions parsed and committed together", metavar="N"
    )
    actors: int | None = setting(None, "parsers at a time; default one for each core", metavar="N")
    keep: bool = setting(False, "leave what was generated")
    json: str | None = setting(None, "write the figures there as well", metavar="FILE")
    write: tuple[str, ...] = setting((), argparse.SUPPRESS, nargs=2)  # the first stage: ROWS TSV
    check: tuple[str, ...] = setting((), argparse.SUPPRESS, nargs=2)  # the last: ROWS LABELS

    def __post_init__(self) -> None:
        at_least(self, captions=1, k=1, shard_size=1, actors=1)

    @property
    def tsv(self) -> Path:
        return Path(self.folder) / "cc12m.tsv"

    @property
    def tags(self) -> Path:
        return Path(self.folder) / "tags"

    @property
    def labels(self) -> Path:
        return Path(self.folder) / "labels.parquet"


def dry_run(settings: Settings, done: Callable[[Stage], None] = lambda stage: None) -> list[Stage]:
    """Runs every stage; `done` is called after each.

    Raises:
        UserError: the folder exists, has no room or cannot be written to, or a stage fails.
    """
    folder = Path(settings.folder)
    if folder.exists():
        raise UserError(f"{folder} exists: name a new folder (--folder), it is removed at the end")
    Folder(folder).make()
    try:
        free = shutil.disk_usage(folder).free
        if free < settings.captions * BYTES_PER_CAPTION:
            raise UserError(
                f"{settings.captions:,} captions need about "
                f"{settings.captions * BYTES_PER_CAPTION / 1e9:.1f} GB, and {folder} has "
                f"{free / 1e9:.1f} GB free: give --folder on another disk"
            )
        stages = []
        for stage in _stages(settings):
            stages.append(stage)
            done(stage)
        return stages
    except StageFailed as error:
        raise UserError(str(error)) from error
    finally:
        if not settings.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _stages(settings: Settings) -> Iterator[Stage]:
    this = str(Path(__file__).resolve())
    tsv, tags, labels = (str(p.resolve()) for p in (settings.tsv, settings.tags, settings.labels))
    count = str(settings.captions)
    parse = ["parsing/run.py", "--parser", "fake", "--address", "local", "--captions", tsv]
    parse += ["--output", tags, "--shard-size", str(settings.shard_size)]
    parse += ["--actors", str(settings.actors)] if settings.actors else []
    label = ["labels/build_vocab.py", "--tags", tags, "--out", labels, "--k", str(settings.k)]
    for name, arguments, leaves in (
        ("write the captions", [this, "--write", count, tsv], settings.tsv),
        (parse[0], parse, settings.tags),
        (label[0], label, settings.labels.with_suffix("")),
        ("open and check the labels", [this, "--check", count, labels], settings.labels),
    ):
        stage = watch(name, [sys.executable, *arguments], leaves, ROOT)
        yield replace(stage, said=_moments(settings.tags)) if name == parse[0] else stage


def _moments(tags: Path) -> str:
    """When the first shard of a run was committed, and when its input had been read."""
    start = Folder(tags).read_json("manifest.json")["sessions"][-1]
    return (
        f"first shard committed after {start['seconds_to_first_commit']:,.1f} s, captions read after "
        f"{start['seconds_to_input_read']:,.1f} s, last shard after {start['seconds_to_last_commit']:,.1f} s"
    )


def check_labels(captions: int, path: Path) -> str:
    """Opens labels as the trainer does and compares some with what the fake parser must have said.

    Raises:
        UserError: rows are missing, or a label is wrong.
    """
    from labels.reader import Labels
    from parsing.fake_parser import FakeConfig

    labels = Labels(path)
    if len(labels) != captions:
        raise UserError(f"{path} has {len(labels):,} rows for {captions:,} images")
    keys = [url(n) for n in range(0, captions, max(1, captions // CHECKED))]
    positions = labels.positions(keys)
    if (positions < 0).any():
        raise UserError(f"{path} lacks the image {keys[int((positions < 0).argmax())]}")
    parser = FakeConfig().build()
    known = {tag: number for number, tag in enumerate(labels.vocabulary.tags)}
    for position, caption in zip(positions.tolist(), labels.captions(positions), strict=True):
        said = parser.parse([caption])[0].objects
        wanted = sorted(known[tag] for tag in said if tag in known)
        if labels.row(position).tolist() != wanted:
            raise UserError(f"row {position} of {path} has other tags than its caption {caption!r}")
    return (
        f"{len(labels):,} images, {labels.num_tags:,} tags, {len(labels.indices):,} labels; "
        f"{len(keys):,} compared with their captions"
    )


def table(stages: Sequence[Stage]) -> str:
    """Markdown."""
    lines = [
        "| stage | seconds | CPU s | driver, GB | of it its own, GB | all processes, GB | files "
        "| on disk, GB |"
    ]
    lines.append("|---|" + "--:|" * 7)
    return "\n".join([*lines, *map(row, stages)])


def row(one: Stage) -> str:
    """Of `table`; printed as soon as its stage has ended, since all take hours on a busy machine."""
    return (
        f"| {one.name} | {one.seconds:,.1f} | {one.cpu_seconds:,.1f} | {one.driver_gb:.2f} | "
        f"{one.driver_own_gb:.2f} | {one.tree_gb:.2f} | {one.files:,} | {one.gb:.3f} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""

    def work(settings: Settings) -> str | None:
        if settings.write:
            return write_captions(Path(settings.write[1]), int(settings.write[0]))
        if settings.check:
            return check_labels(int(settings.check[0]), Path(settings.check[1]))
        return _report(settings)

    return run_command(__doc__, Settings, work, arguments, "stopped; what was generated is removed")


def _report(settings: Settings) -> str:
    def told(stage: Stage) -> None:
        print(row(stage), file=sys.stderr, flush=True)

    stages = dry_run(settings, told)
    date, cores = time.strftime("%Y-%m-%d"), os.cpu_count()
    if settings.json:
        about = {"settings": asdict(settings), "date": date, "cores": cores}
        about |= {"python": platform.python_version(), "stages": [asdict(one) for one in stages]}
        target = Path(settings.json)
        Folder(target.parent).write_json(target.name, about)
    title = f"{settings.captions:,} captions, {cores} cores, {date}"
    said = [stages[1].said, stages[-1].said.strip()]
    return "\n\n".join([title, table(stages), *said])


if __name__ == "__main__":
    sys.exit(main())
