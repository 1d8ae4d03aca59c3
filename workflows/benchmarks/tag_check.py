"""What deciding and writing cost after a check of tags has looked at all pictures: seconds and private memory.

    python workflows/benchmarks/tag_check.py --images 12000000

Labels and evidence are generated at the given size, for a vocabulary of 20,000 tags by Zipf's law, and then
go through the code that `training/check_tags.py` runs: fitting the probabilities, scoring all tags, writing the
label file. Private memory is what belongs to this process alone (RssAnon); mapped files belong to the page cache.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: a module here is called like a package there.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import pyarrow as pa

from common.flags import setting
from common.storage import Folder
from labels.label_file import LABELS, LabelWriter
from labels.reader import Labels
from labels.vocabulary import ATTRIBUTE, OBJECT, Vocabulary
from training.tag_check.checked_file import Model, score_all, threshold_of, write_checked
from training.tag_check.parts import Part, Parts
from training.tag_check.settings import Keep
from workflows.benchmarks.measuring import MIB, resident, table
from workflows.command import at_least, run_command

OBJECTS, ATTRIBUTES = 10_000, 10_000
PER_IMAGE = (3, 1)  # objects and attributes
CHUNK = 8192


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    images: int = setting(12_000_000, "images with labels", metavar="N")
    folder: str | None = setting(None, "where the files go; default a temporary one", metavar="DIR")

    def __post_init__(self) -> None:
        at_least(self, images=1)


class Meter:
    """Seconds and the peak of private memory of some stages."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        peak, done = [resident("RssAnon")], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                peak[0] = max(peak[0], resident("RssAnon"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - began
            done.set()
            watcher.join()
            self.rows.append((name, taken, max(peak[0], resident("RssAnon")) / MIB))

    def __str__(self) -> str:
        lines = [(name, f"{seconds:,.1f}", f"{mib:,.0f}") for name, seconds, mib in self.rows]
        return table([("", "seconds", "private MiB, peak"), *lines])


def measure(settings: Settings, folder: Path) -> str:
    """The table."""
    meter = Meter()
    with meter.stage("start"):
        pass
    path = folder / "labels.parquet"
    with meter.stage("generating"):
        _write_labels(path, settings.images)
    with meter.stage("opening the labels"):
        labels = Labels(path)
    parts, chunks = Parts(Folder(folder / "parts")), -(-settings.images // CHUNK)
    parts.folder.make()
    with meter.stage("generating evidence"):
        for chunk in range(chunks):
            parts.write(chunk, _part(labels, chunk))
    with meter.stage("fitting the probabilities"):
        model, _, _ = Model.of(parts, chunks, labels.num_tags)
    with meter.stage("scoring all tags"):
        scores = score_all(labels, parts, chunks, model, parts.folder)
    with meter.stage("writing the label file"):
        threshold = threshold_of(scores, Keep.read("70%"))
        counts = write_checked(labels, scores, threshold, str(folder / "seen.parquet"), {})
    return f"{meter}\n{counts.kept:,} of {counts.kept + counts.dropped:,} tags stay"


def _zipf(count: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return np.cumsum(weights / weights.sum())


def _write_labels(path: Path, images: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"{kind} {i}" for kind in (OBJECT, ATTRIBUTE) for i in range(OBJECTS)]
    kinds = [OBJECT] * OBJECTS + [ATTRIBUTE] * ATTRIBUTES
    share = np.diff(_zipf(OBJECTS), prepend=0)
    counts = np.maximum(np.concatenate([share, share]) * images * PER_IMAGE[0], 1).astype(np.int64)
    ends = _zipf(OBJECTS), _zipf(ATTRIBUTES)
    with LabelWriter(path, Vocabulary(names, kinds, counts, images)) as writer:
        for start in range(0, images, 1 << 17):
            size = min(1 << 17, images - start)
            drawn = [
                np.searchsorted(end, rng.random((size, many)))
                for end, many in zip(ends, PER_IMAGE, strict=True)
            ]
            ids = np.sort(np.concatenate([drawn[0], drawn[1] + OBJECTS], 1), 1)
            first = np.diff(ids, axis=1, prepend=-1) > 0  # each once
            offsets = np.concatenate([[0], np.cumsum(first.sum(1))]).astype(np.int32)
            lists = pa.ListArray.from_arrays(
                pa.array(offsets),
                pa.array(ids[first].astype(np.int32)),
                type=LABELS.field("tag_ids").type,
            )
            keys = pa.array([f"{i:09d}" for i in range(start, start + size)])
            captions = pa.array([f"caption of picture {i}" for i in range(start, start + size)])
            writer.write(pa.Table.from_arrays([keys, captions, lists], schema=LABELS))


def _part(labels: Labels, chunk: int) -> Part:
    """Evidence of four objects in five as of shown ones, and of the null."""
    rng = np.random.default_rng(chunk + 1)
    rows = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, len(labels)))
    indptr, tags = labels.rows(rows)
    is_object = tags < OBJECTS
    z = rng.normal(np.where(rng.random(len(tags)) < 0.8, 2.5, 0.0)).astype(np.float16)
    z[~is_object] = np.nan
    owner = np.repeat(np.arange(len(rows)), np.diff(indptr))
    attributes = np.flatnonzero(~is_object)
    things = indptr[owner[attributes]]  # the row's first object
    null_tags = rng.permutation(tags[is_object])
    places = rng.permutation(len(tags)) % 20
    half: Callable[[int], np.ndarray] = lambda n: rng.normal(size=n).astype(np.float16)  # noqa: E731
    return Part(
        rows, np.diff(indptr).astype(np.int32), tags.astype(np.int32), places.astype(np.int16), z,
        null_tags.astype(np.int32), half(len(null_tags)),
        attributes.astype(np.int32), things.astype(np.int32), half(len(attributes)),
        rng.permutation(tags[attributes]).astype(np.int32), half(len(attributes)),
        np.array([len(rows)]), np.array([0]),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""

    def work(settings: Settings) -> str:
        if settings.folder is not None:
            Path(settings.folder).mkdir(parents=True, exist_ok=True)
            return measure(settings, Path(settings.folder))
        with tempfile.TemporaryDirectory() as folder:
            return measure(settings, Path(folder))

    return run_command(__doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
