"""The Ray pool: parsers that refuse, die, stall and kill, on a real Ray."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pyarrow as pa
import pytest

from common.errors import UserError
from parsing.fake_parser import FakeConfig
from parsing.job import cluster
from parsing.source.captions import CAPTIONS
from parsing.tags import FAILED, OK

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def ray_of_our_own():
    with cluster.connected(cluster.LOCAL):
        yield


@pytest.fixture
def pools():
    """Makes pools and closes them."""
    from parsing.job.pool import Pool

    made = []

    def make(config, **options) -> Pool:
        made.append(Pool(config, **options))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def pieces(captions: list[list[str]]):
    from parsing.job.pool import Piece

    first = 0
    for shard, texts in enumerate(captions):
        ids = range(first, first + len(texts))
        first += len(texts)
        yield Piece(shard, pa.table([list(ids), texts, [None] * len(texts)], schema=CAPTIONS))


def rows(results) -> dict[int, str]:
    found = {}
    for result in results:
        if result is not None:
            for row in result[1].to_pylist():
                assert row["caption_id"] not in found, "a caption was answered twice"
                found[row["caption_id"]] = row["status"]
    return found


def worker_processes() -> list[psutil.Process]:
    """The actors of this Ray: Ray names their processes after the class."""
    mine = psutil.Process().children(recursive=True)
    return [p for p in mine if any("ray::Worker" in word for word in p.cmdline())]


def test_every_piece_comes_back_once(pools):
    shards = [[f"caption {n} of shard {s}" for n in range(7)] for s in range(9)]
    pool = pools(FakeConfig(), actors=2)
    assert rows(pool.run(pieces(shards), work=9)) == dict.fromkeys(range(63), OK)


def test_no_more_actors_than_pieces_are_started(pools):
    pool = pools(FakeConfig(cpus=0.25))
    assert rows(pool.run(pieces([["a green house"]]), work=1)) == {0: OK}
    assert pool.ready == 1


def test_a_parser_that_refuses_to_start_ends_the_run_with_its_reason(pools):
    pool = pools(FakeConfig(broken="the weights are not here: fetch them first"))
    began = time.monotonic()
    with pytest.raises(UserError, match="the weights are not here: fetch them first"):
        list(pool.run(pieces([["a house"]]), work=1))
    assert time.monotonic() - began < 60


def test_a_cluster_without_room_is_told_at_once(pools):
    with pytest.raises(UserError, match="no room for one parser of 1 CPUs and 3 GPUs"):
        pools(FakeConfig(gpus=3))


def test_killed_actors_are_replaced_and_nothing_is_lost(pools):
    said = []
    shards = [[f"caption {n} of shard {s}" for n in range(10)] for s in range(8)]
    pool = pools(FakeConfig(seconds=0.02), actors=1, say=said.append)
    results, killed = [], 0
    for result in pool.run(pieces(shards), work=8):
        results.append(result)
        done = sum(r is not None for r in results)
        if pool.ready and killed < 2 and done > 2 * killed:
            for process in worker_processes():
                os.kill(process.pid, signal.SIGKILL)
            killed += 1
    assert killed == 2
    assert rows(results) == dict.fromkeys(range(80), OK)
    assert any("a parser died" in line for line in said)


def test_a_caption_that_kills_its_parser_becomes_a_failed_row_alone(pools):
    shards = [[f"caption {n} of shard {s}" for n in range(4)] for s in range(3)]
    shards[1][2] = "a dreadful caption"
    pool = pools(FakeConfig(poison="dreadful"), actors=2)
    found = rows(pool.run(pieces(shards), work=3))
    assert found.pop(6) == FAILED
    assert found == {n: OK for n in range(12) if n != 6}


def test_a_parser_that_always_dies_ends_the_run(pools):
    pool = pools(FakeConfig(poison="a"), actors=1)
    with pytest.raises(UserError, match="parsers keep dying"):
        list(pool.run(pieces([["a b", "a c", "a d", "a e"]] * 8), work=8))


def test_a_caption_that_hangs_its_parser_becomes_a_failed_row(pools):
    said = []
    pool = pools(FakeConfig(seconds=3600), actors=1, stall=1.0, say=said.append)
    assert rows(pool.run(pieces([["a house"]]), work=1)) == {0: FAILED}
    assert all("nothing finished for 1 s" in line for line in said)
