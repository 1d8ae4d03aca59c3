"""Captions that were seen: found again by all of their hash, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from parsing.source.seen import SeenCaptions, hash_captions


def random_hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 64, (count, 2), dtype=np.uint64)


@pytest.mark.parametrize("sizes", [[1], [5, 5], [1000, 3, 3, 400, 1, 1, 1], [7] * 60])
def test_every_hash_is_found_with_its_id_and_no_other_is(sizes):
    seen, hashes = SeenCaptions(), random_hashes(sum(sizes))
    ids = np.arange(len(hashes)) * 3
    ends = np.cumsum(sizes)
    for begin, end in zip(ends - sizes, ends, strict=True):
        assert (seen.find(hashes[begin:end]) == -1).all()
        seen.add(hashes[begin:end], ids[begin:end])
    assert (seen.find(hashes) == ids).all()
    assert (seen.find(random_hashes(500, seed=1), missing=-7) == -7).all()
    half = hashes.copy()
    half[:, 1] += np.uint64(1)  # the first 64 bits agree, the others do not
    assert (seen.find(half) == -1).all()


def test_memory_is_bounded_also_while_runs_are_merged():
    """The driver of a run holds this: at 12 million captions half a gigabyte and no more."""
    count, batch = 1 << 20, 1 << 14
    hashes, ids = random_hashes(count), np.arange(count)
    tracemalloc.start()
    seen = SeenCaptions()
    for begin in range(0, count, batch):
        seen.add(hashes[begin : begin + batch], ids[begin : begin + batch])
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 25 * count
    assert peak < 50 * count


def test_hashes_are_the_same_on_every_machine():
    dog = [9950086195805494252, 15726055565441259080]
    assert hash_captions(["a cat", "a dog"]).tolist()[1:] == [dog]
    assert hash_captions([]).shape == (0, 2)
