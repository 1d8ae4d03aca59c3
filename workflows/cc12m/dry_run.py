"""The whole road over generated captions with the parser that needs no model: does this machine hold?

    python workflows/cc12m/dry_run.py --captions 12000000 --folder /data/dry-run
    python workflows/cc12m/dry_run.py --captions 100000             # a minute

Captions are generated as CC12M's own TSV, then go through `parsing/run.py --parser fake` on a real
Ray, `labels/build_vocab.py` and the reader that the trainer uses: driver, shards and labels meet the
size that they will meet with a real model. What is generated is removed again (--keep leaves it).
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from parsing.captions import Selection
from parsing.errors import UserError
from parsing.storage import Folder
from workflows.cc12m.watch import Stage, StageFailed, watch
from workflows.cc12m.zipf_captions import url, write_captions

ROOT = Path(__file__).resolve().parents[2]
BYTES_PER_CAPTION = 900  # of the captions and all that is made of them, with room to spare
CHECKED = 1_000  # labels that are compared with their captions at the end


@dataclass(frozen=True)
class Settings:
    """A dry run.

    Attributes:
        captions: rows to generate.
        folder: a new one, for everything that is generated.
        k: objects, and attributes, in the vocabulary.
        shard_size: captions parsed and committed together.
        actors: parsers at a time; None takes as many as the machine has cores.
        keep: leave what was generated.
    """

    captions: int = 1_000_000
    folder: str = "data/cc12m-dry-run"
    k: int = 10_000
    shard_size: int = Selection.shard_size
    actors: int | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        for name in ("captions", "k", "shard_size", "actors"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {value}")

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
    python, this = sys.executable, str(Path(__file__).resolve())
    yield watch(
        "write the captions",
        [python, this, "--write", str(settings.captions), str(settings.tsv.resolve())],
        settings.tsv,
        ROOT,
    )
    command = [python, "parsing/run.py", "--parser", "fake", "--address", "local"]
    command += ["--captions", str(settings.tsv.resolve()), "--output", str(settings.tags.resolve())]
    command += ["--shard-size", str(settings.shard_size)]
    command += ["--actors", str(settings.actors)] if settings.actors else []
    yield watch("parsing/run.py", command, settings.tags, ROOT)
    command = [python, "labels/build_vocab.py", "--tags", str(settings.tags.resolve())]
    command += ["--out", str(settings.labels.resolve()), "--k", str(settings.k)]
    yield watch("labels/build_vocab.py", command, settings.labels.with_suffix(""), ROOT)
    yield watch(
        "open and check the labels",
        [python, this, "--check", str(settings.captions), str(settings.labels.resolve())],
        settings.labels,
        ROOT,
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
    lines = ["| stage | seconds | CPU s | driver, GB | all processes, GB | files | on disk, GB |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for one in stages:
        lines.append(
            f"| {one.name} | {one.seconds:,.1f} | {one.cpu_seconds:,.1f} | {one.driver_gb:.2f} | {one.tree_gb:.2f} | "
            f"{one.files:,} | {one.gb:.3f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--captions", type=int, default=defaults.captions, help="rows; default %(default)s")
    add("--folder", default=defaults.folder, help="a new one; default %(default)s")
    add("--k", type=int, default=defaults.k, help="tags of each kind; default %(default)s")
    add("--shard-size", type=int, default=defaults.shard_size, help="default %(default)s")
    add("--actors", type=int, help="parsers at a time; default one for each core")
    add("--keep", action="store_true", help="leave what was generated")
    add("--json", metavar="FILE", help="write the figures there as well")
    add("--write", nargs=2, metavar=("ROWS", "TSV"), help=argparse.SUPPRESS)  # the first stage
    add("--check", nargs=2, metavar=("ROWS", "LABELS"), help=argparse.SUPPRESS)  # and the last
    flags = vars(parser.parse_args(arguments))
    write, check, file = flags.pop("write"), flags.pop("check"), flags.pop("json")
    try:
        if write:
            write_captions(Path(write[1]), int(write[0]))
        elif check:
            print(check_labels(int(check[0]), Path(check[1])))
        else:
            _report(Settings(**flags), file)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was generated is gone", file=sys.stderr)
        return 130
    return 0


def _report(settings: Settings, file: str | None) -> None:
    def told(stage: Stage) -> None:
        print(f"{stage.name}: {stage.seconds:,.1f} s", file=sys.stderr, flush=True)

    stages = dry_run(settings, told)
    about = f"{settings.captions:,} captions, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    print(f"{about}\n\n{table(stages)}\n\n{stages[-1].said.strip()}")
    if file:
        content = {
            "settings": asdict(settings),
            "date": time.strftime("%Y-%m-%d"),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "stages": [asdict(stage) for stage in stages],
        }
        target = Path(file)
        Folder(target.parent).write_json(target.name, content)


if __name__ == "__main__":
    sys.exit(main())
