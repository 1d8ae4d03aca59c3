"""Which captions have been seen, by their hashes, in 24 bytes each."""

from __future__ import annotations

import numpy as np
import xxhash


class SeenCaptions:
    """Caption hash to caption id, in sorted runs of numpy arrays.

    A batch is looked up and added in a few vectorised steps. Runs are merged so that each is at
    least twice the size of the next: every hash is copied O(log n) times. Two captions are taken
    for one only where all 128 bits of their hashes agree.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def find(self, hashes: np.ndarray, missing: np.ndarray | int = -1) -> np.ndarray:
        """Ids of the captions with these hashes.

        Args:
            hashes: uint64 of shape (n, 2).
            missing: the id of a caption that was not seen, one or int64 of shape (n,).

        Returns:
            int64 of shape (n,).
        """
        ids = np.empty(len(hashes), dtype=np.int64)
        ids[:] = missing
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
            newer, older = list(self._runs.pop()), list(self._runs.pop())
            self._runs.append(_merged(older, newer))


def _merged(older: list[np.ndarray], newer: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """One sorted run of two, which it empties: at its peak it needs 44 bytes a hash instead of 80."""
    order = np.argsort(np.concatenate([older[0], newer[0]]), kind="stable")
    columns = []
    while older:
        # The parts of a column go before the next one is made.
        columns.append(np.concatenate([older.pop(0), newer.pop(0)])[order])
    return tuple(columns)


def _sorted_run(high: np.ndarray, low: np.ndarray, ids: np.ndarray):
    order = np.argsort(high, kind="stable")  # radix-like on the two sorted halves of a merge
    return high[order], low[order], ids[order]


def hash_captions(captions: list[str]) -> np.ndarray:
    """128-bit xxh3 of each caption as uint64 of shape (n, 2); the same on every machine."""
    digests = b"".join(xxhash.xxh3_128_digest(text.encode()) for text in captions)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)
