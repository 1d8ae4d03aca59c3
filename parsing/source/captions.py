"""One streaming pass over the input: unique caption shards, and the index from key to caption.

    captions/part-000000.parquet ...   schema `CAPTIONS`, a fixed number of rows each
    captions/done.json                 what the pass read and counted; its presence ends the pass
    index/part-000000.parquet ...      schema `INDEX`, one row per image, in the input's order

Memory is bounded by the set of hashes of the captions seen so far, 24 bytes each (288 MB for
CC12M), plus a batch of rows. Ids are given in the order of first appearance, so the same input
always makes the same shards.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from common.errors import UserError
from common.flags import setting
from common.storage import Folder
from parsing.source.readers import Row, Source

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


class SeenCaptions:
    """Caption hash to caption id, in sorted runs of numpy arrays.

    A batch is looked up and added in a few vectorised steps. Runs are merged so that each is at
    least twice the size of the next: every hash is copied O(log n) times. Two captions are taken
    for one only where all 128 bits of their hashes agree.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Ids of the captions with these hashes, -1 for those not seen.

        Args:
            hashes: uint64 of shape (n, 2).

        Returns:
            int64 of shape (n,).
        """
        ids = np.full(len(hashes), -1, dtype=np.int64)
        for high, low, run_ids in self._runs:
            at = np.searchsorted(high, hashes[:, 0])
            at[at == len(high)] = 0
            hit = (high[at] == hashes[:, 0]) & (low[at] == hashes[:, 1])
            ids[hit] = run_ids[at[hit]]
        return ids

    def add(self, hashes: np.ndarray, ids: np.ndarray) -> None:
        """Remembers new hashes (uint64, shape (n, 2)) with their ids (int64, shape (n,))."""
        if not len(ids):
            return
        self._runs.append(_sorted_run(hashes[:, 0], hashes[:, 1], ids))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            newer, older = self._runs.pop(), self._runs.pop()
            merged = [np.concatenate(pair) for pair in zip(older, newer, strict=True)]
            self._runs.append(_sorted_run(*merged))


def _sorted_run(high: np.ndarray, low: np.ndarray, ids: np.ndarray):
    order = np.argsort(high, kind="stable")  # radix-like on the two sorted halves of a merge
    return high[order], low[order], ids[order]


def hash_captions(captions: list[str]) -> np.ndarray:
    """128-bit xxh3 of each caption as uint64 of shape (n, 2); the same on every machine."""
    digests = b"".join(xxhash.xxh3_128_digest(text.encode()) for text in captions)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def write_caption_shards(
    folder: Folder,
    source: Source,
    selection: Selection,
    watch: Callable[[int], None] = lambda images: None,
) -> Counts:
    """Makes the caption shards and the index of a run; where they are made already, counts them.

    An interrupted pass begins anew and writes the same files again; what it left goes first,
    because it may have cut the captions differently.

    Args:
        folder: the run's folder.
        watch: called with the number of images so far after every batch; may raise to stop.

    Raises:
        UserError: the folder holds the captions of another input; the input cannot be read, or
            holds no caption.
    """
    captions, index = folder.sub("captions"), folder.sub("index")
    wanted = source.identity() | asdict(selection)
    if captions.exists(DONE):
        done = captions.read_json(DONE)
        _check_same_input(folder, done["selection"], wanted)
        return Counts(**done["counts"])
    for each in (captions, index):
        each.make()
        each.remove_all(".parquet")
    writer = _ShardWriter(captions, selection.shard_size)
    images = malformed = index_parts = 0
    pending: list[pa.Table] = []
    for rows, ids, fresh in unique_captions(source.rows(), selection.limit, selection.sample):
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
    return counts


def part_name(number: int, ending: str = "parquet") -> str:
    """`part-000012.parquet`: the name of a shard's file in every folder of a run."""
    return f"part-{number:06d}.{ending}"


def read_shard(captions: Folder, number: int) -> pa.Table:
    """One caption shard, schema `CAPTIONS`."""
    return captions.read_table(part_name(number))


class _ShardWriter:
    """Cuts a stream of unique captions into shards of one size; ids count up from 0."""

    def __init__(self, folder: Folder, size: int) -> None:
        self.captions = self.shards = 0
        self._folder, self._size = folder, size
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


def _check_same_input(folder: Folder, made: dict[str, Any], wanted: dict[str, Any]) -> None:
    wanted = json.loads(json.dumps(wanted))  # as it reads back
    for name, value in wanted.items():
        if made.get(name) != value:
            flag = f"--{name.replace('_', '-')} differs"
            what = "names or sizes of the input files differ" if name == "files" else flag
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
