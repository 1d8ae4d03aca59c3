"""One streaming pass over the input: unique caption shards, and the index from key to caption.

Memory is bounded by the set of hashes of the captions seen so far, 24 bytes each (288 MB for
CC12M), plus a batch of rows. Ids are given in the order of first appearance, so the same input
always makes the same shards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import xxhash

from parsing.errors import UserError
from parsing.readers import Row
from parsing.storage import Folder

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
INDEX_ROWS = 1_000_000


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
    digests = b"".join(map(xxhash.xxh3_128_digest, captions))
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def unique_captions(
    rows: Iterable[Row], limit: int | None = None, sample: float | None = None
) -> Iterator[tuple[list[Row], np.ndarray, np.ndarray]]:
    """Gives every row the id of its caption, batch by batch.

    Args:
        rows: the input; a row with a problem is a caption of its own.
        limit: stop after this many unique captions.
        sample: keep this share of the unique captions, in (0, 1), chosen by their hash: the same
            captions in every run and every order of the input.

    Yields:
        (rows kept, int64 ids of shape (n,), bool mask of shape (n,): first appearance).
    """
    seen, next_id = SeenCaptions(), 0
    for batch in itertools.batched_rows(rows) if False else _batches(rows):
        # A malformed row keeps its place: hashing its key and problem too makes it unique.
        texts = [r.caption if r.problem is None else f"{r.key}\0{r.problem}" for r in batch]
        hashes = hash_captions(texts)
        if sample is not None:
            keep = hashes[:, 1] < np.uint64(int(sample * 2**64))
            batch = [row for row, kept in zip(batch, keep, strict=True) if kept]
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
        if limit is not None and next_id > limit:
            inside = ids < limit
            batch = [row for row, kept in zip(batch, inside, strict=True) if kept]
            ids, fresh = ids[inside], fresh[inside]
        if batch:
            yield batch, ids, fresh
        if limit is not None and next_id >= limit:
            return


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, BATCH_ROWS)):
        yield batch
