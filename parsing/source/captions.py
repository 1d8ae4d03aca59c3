"""One streaming pass over the input: unique caption shards, and the index from key to caption.

    captions/part-000000.parquet ...   schema `CAPTIONS`, a fixed number of rows each
    captions/begun.json                which input is being read, as long as the pass goes on
    captions/done.json                 what the pass read and counted; its presence ends the pass
    index/part-000000.parquet ...      schema `INDEX`, one row per image, in the input's order

Memory is bounded by the set of hashes of the captions seen so far, 24 bytes each (288 MB for
CC12M), plus a batch of rows; and as much again for keys that are no URLs, where there is more than
one file. Ids are given in the order of first appearance, so the same input always makes the same
shards.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, reason
from common.flags import setting
from common.storage import Folder
from parsing.source.keys import rows_with_clear_keys
from parsing.source.readers import Source
from parsing.source.seen import SeenCaptions, hash_captions
from parsing.source.values import Row

CAPTIONS = pa.schema(
    [
        pa.field("caption_id", pa.int64(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("problem", pa.string()),
    ]
)
INDEX = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption_id", pa.int64(), nullable=False),
    ]
)
BEGUN = "begun.json"
DONE = "done.json"
BATCH_ROWS = 65_536
SMALL_BATCH_ROWS = 1_000  # a small limit must not wait for a whole batch of a slow source
INDEX_ROWS = 1_000_000


@dataclass(frozen=True)
class Selection:
    """Which unique captions of the input a run takes, and how many make a shard."""

    limit: int | None = setting(None, "only the first N unique captions", metavar="N")
    sample: float | None = setting(
        None,
        "only this share of the unique captions, the same ones in every run and in every order of "
        "the input",
        metavar="SHARE",
    )
    shard_size: int = setting(2_000, "captions parsed, retried and committed together", metavar="N")

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit must be at least 1, not {self.limit}")
        if self.sample is not None and not 0 < self.sample <= 1:
            raise UserError(f"--sample is a share between 0 and 1, not {self.sample:g}")
        if self.shard_size < 1:
            raise UserError(f"--shard-size must be at least 1, not {self.shard_size}")


@dataclass(frozen=True)
class Counts:
    """What the pass saw.

    Attributes:
        images: rows of the input that belong to a chosen caption.
        captions: unique captions, malformed rows included.
        malformed: rows that could not be read; each counts as a caption of its own.
        shards: caption shards written.
    """

    images: int
    captions: int
    malformed: int
    shards: int


def write_caption_shards(
    folder: Folder,
    source: Source,
    selection: Selection,
    watch: Callable[[int], None] = lambda images: None,
    tell: Callable[[str], None] = lambda note: print(f"note: {note}", file=sys.stderr),
    wrote: Callable[[int], None] = lambda shard: None,
    keep: bool = False,
) -> Counts:
    """Makes the caption shards and the index of a run; where they are made already, counts them.

    An interrupted pass begins anew and writes the same files again; what it left goes first,
    because it may have cut the captions differently. So does a pass of which files are missing or
    cut off.

    Args:
        folder: the run's folder.
        watch: called with the number of images so far after every batch; may raise to stop.
        tell: called with one sentence for the user, once for each kind of note.
        wrote: called with the number of each shard that is written, once it is there.
        keep: shards of an interrupted pass have been parsed, so that this one must be of the same
            captions.

    Raises:
        UserError: the folder holds the captions of another input; the input cannot be read, or
            holds no caption; or two files call different images by the same name.
    """
    captions, index = folder.sub("captions"), folder.sub("index")
    wanted = source.identity() | asdict(selection)
    if captions.exists(DONE):
        done = captions.read_json(DONE)
        try:
            made, counts = done["selection"], Counts(**done["counts"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{captions.url}/{DONE} is damaged: give another --output") from error
        _check_same_input(folder, made, wanted)
        if _is_whole(captions, index, counts, selection.shard_size):
            return counts
        tell(
            f"files of {captions.url} or {index.url} are missing or damaged: they are written again"
        )
    elif keep and captions.exists(BEGUN):
        _check_same_input(folder, captions.read_json(BEGUN)["selection"], wanted)
    captions.make()
    captions.write_json(BEGUN, {"selection": wanted})
    captions.remove(DONE)
    for each in (captions, index):
        each.make()
        each.remove_all(".parquet")
    writer = _ShardWriter(captions, selection.shard_size, wrote)
    images = malformed = index_parts = 0
    pending: list[pa.Table] = []
    told: set[str] = set()

    def note(kind: str, sentence: str) -> None:
        if kind not in told:
            told.add(kind)
            tell(sentence)

    rows_of_files = rows_with_clear_keys(source, note)
    for rows, ids, fresh in unique_captions(rows_of_files, selection.limit, selection.sample):
        first = [row for row, new in zip(rows, fresh.tolist(), strict=True) if new]
        malformed += sum(row.problem is not None for row in first)
        writer.add(first)
        pending.append(pa.table([[row.key for row in rows], ids], schema=INDEX))
        images += len(rows)
        if sum(map(len, pending)) >= INDEX_ROWS:
            index.write_table(part_name(index_parts), pa.concat_tables(pending))
            index_parts, pending = index_parts + 1, []
        watch(images)
    if pending:
        index.write_table(part_name(index_parts), pa.concat_tables(pending))
    writer.finish()
    if not writer.captions:
        raise UserError(f"there are no captions in {', '.join(source.paths)}")
    counts = Counts(images, writer.captions, malformed, writer.shards)
    captions.write_json(DONE, {"counts": asdict(counts), "selection": wanted})
    captions.remove(BEGUN)
    return counts


def part_name(number: int, ending: str = "parquet") -> str:
    """`part-000012.parquet`: the name of a shard's file in every folder of a run."""
    return f"part-{number:06d}.{ending}"


def read_shard(captions: Folder, number: int) -> pa.Table:
    """One caption shard, schema `CAPTIONS`. A damaged file goes, so that the next pass writes it.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    name = part_name(number)
    try:
        data = captions.read(name)
    except OSError as error:
        raise UserError(f"cannot read {captions.url}/{name}: {reason(error)}") from error
    try:
        return pq.read_table(pa.BufferReader(data))
    except (OSError, pa.ArrowException) as error:  # Arrow raises both for bytes that are no Parquet
        captions.remove(name)
        raise UserError(
            f"{captions.url}/{name} was damaged ({reason(error)}): the same command writes it again"
        ) from error


def rows_in(folder: Folder, name: str) -> int | None:
    """How many rows a Parquet file says it holds; None where it is missing or cut off."""
    try:
        with folder.fs.open(folder.path(name), "rb") as file:
            return pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException):
        return None


def _is_whole(captions: Folder, index: Folder, counts: Counts, size: int) -> bool:
    """Whether all files of a pass are there, with as many rows as it counted."""
    for shard in range(counts.shards):
        if rows_in(captions, part_name(shard)) != min(size, counts.captions - shard * size):
            return False
    parts = [rows_in(index, name) for name in index.names(".parquet")]
    return None not in parts and sum(parts) == counts.images


class _ShardWriter:
    """Cuts a stream of unique captions into shards of one size; ids count up from 0."""

    def __init__(self, folder: Folder, size: int, wrote: Callable[[int], None]) -> None:
        self.captions = self.shards = 0
        self._folder, self._size, self._wrote = folder, size, wrote
        self._waiting: list[Row] = []

    def add(self, rows: list[Row]) -> None:
        self._waiting += rows
        while len(self._waiting) >= self._size:
            self._write(self._waiting[: self._size])
            self._waiting = self._waiting[self._size :]

    def finish(self) -> None:
        if self._waiting:
            self._write(self._waiting)

    def _write(self, rows: list[Row]) -> None:
        ids = np.arange(self.captions, self.captions + len(rows))
        texts, problems = [row.caption for row in rows], [row.problem for row in rows]
        table = pa.table([ids, texts, problems], schema=CAPTIONS)
        self._folder.write_table(part_name(self.shards), table)
        self.captions += len(rows)
        self.shards += 1
        self._wrote(self.shards - 1)


def _check_same_input(folder: Folder, made: dict[str, Any], wanted: dict[str, Any]) -> None:
    wanted = json.loads(json.dumps(wanted))  # as it reads back
    for name, value in wanted.items():
        if made.get(name) != value:
            what = f"--{name.replace('_', '-')} differs"
            if name == "files":
                same = [each[:2] for each in made[name]] == [each[:2] for each in value]
                what = f"{'contents' if same else 'names or sizes'} of the input files differ"
            raise UserError(
                f"{folder.url} was begun with other captions ({what}): "
                "give the same again, or another --output"
            )


def unique_captions(
    rows: Iterable[Row], limit: int | None = None, sample: float | None = None
) -> Iterator[tuple[list[Row], np.ndarray, np.ndarray]]:
    """Gives every row the id of its caption, batch by batch.

    Args:
        rows: the input; a row with a problem is a caption of its own.
        limit, sample: as in `Selection`.

    Yields:
        (rows kept, int64 ids of shape (n,), bool mask of shape (n,): first appearance).
    """
    seen, next_id = SeenCaptions(), 0
    iterator = iter(rows)
    size = BATCH_ROWS if limit is None else min(BATCH_ROWS, max(2 * limit, SMALL_BATCH_ROWS))
    while batch := list(itertools.islice(iterator, size)):
        # A malformed row keeps its place: hashing its key and problem too makes it unique.
        texts = [r.caption if r.problem is None else f"{r.key}\0{r.problem}" for r in batch]
        hashes = hash_captions(texts)
        if sample is not None and sample < 1:
            keep = hashes[:, 1] < np.uint64(int(sample * 2**64))
            batch = list(itertools.compress(batch, keep.tolist()))
            hashes = hashes[keep]
        ids = seen.find(hashes)
        fresh = np.zeros(len(batch), dtype=bool)
        # Within the batch the first row of each new caption takes the next id.
        new_rows = np.flatnonzero(ids < 0)
        unique, first, inverse = np.unique(
            hashes[new_rows], axis=0, return_index=True, return_inverse=True
        )
        rank = np.empty(len(unique), dtype=np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(unique))
        ids[new_rows] = next_id + rank[inverse.reshape(-1)]
        fresh[new_rows[first]] = True
        seen.add(unique, next_id + rank)
        next_id += len(unique)
        enough = limit is not None and next_id >= limit
        if enough:
            end = int(np.argmax(fresh & (ids == limit - 1))) + 1
            batch, ids, fresh = batch[:end], ids[:end], fresh[:end]
        if batch:
            yield batch, ids, fresh
        if enough:
            return
