"""The Ray pool: parsers that refuse, die, stall and kill, on a real Ray."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil
import pyarrow as pa
import pytest
import ray

from common.errors import UserError
from parsing.fake_parser import FakeConfig
from parsing.job import cluster
from parsing.job.endurance import Limits
from parsing.source.captions import CAPTIONS
from parsing.tags import FAILED, OK
from tests.parsing.job.troubled_parser import TroubledConfig, ray_error

QUICK = Limits(pause=0.01)

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
    from parsing.job.piece import Piece

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
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end meanwhile
            if any("ray::Worker" in word for word in process.cmdline()):
                found.append(process)
    return found


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


def test_room_that_others_hold_is_told_from_a_cluster_without_any(pools, monkeypatch):
    monkeypatch.setattr("parsing.job.endurance.BUSY_SECONDS", 1)
    all_of_it = FakeConfig(cpus=ray.cluster_resources()["CPU"])
    holding = pools(all_of_it)
    assert rows(holding.run(pieces([["a house"]]))) == {0: OK}
    with pytest.raises(
        UserError, match=r"not even one parser of .* since other jobs hold its room"
    ):
        rows(pools(all_of_it, limits=Limits(room=1)).run(pieces([["a house"]])))


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
    pool = pools(FakeConfig(poison="a"), actors=1, limits=QUICK)
    with pytest.raises(UserError, match="parsers keep dying"):
        list(pool.run(pieces([["a b", "a c", "a d", "a e"]] * 8), work=8))


def test_a_caption_that_hangs_its_parser_becomes_a_failed_row(pools):
    said = []
    limits = Limits(answer=1.0, pause=0.01)
    pool = pools(FakeConfig(seconds=3600), actors=1, limits=limits, say=said.append)
    assert rows(pool.run(pieces([["a house"]]), work=1)) == {0: FAILED}
    assert all("no answer for 1 s" in line for line in said)


@pytest.mark.parametrize(
    "name",
    ["ObjectLostError", "OutOfMemoryError", "OutOfDiskError", "ActorUnavailableError"],
)
@pytest.mark.parametrize("where", ["driver", "actor"])
def test_what_ray_itself_fails_at_is_tried_again_and_no_caption_is_blamed(
    pools, tmp_path, monkeypatch, name, where
):
    said = []
    config = TroubledConfig(ray_error=name, once=str(tmp_path / "once"))
    if where == "driver":
        config = FakeConfig()
        get, failures = ray.get, [ray_error(name)]

        def fail_once(ref):
            value = get(ref)
            if isinstance(value, tuple) and isinstance(value[0], pa.Table) and failures:
                raise failures.pop()
            return value

        monkeypatch.setattr(ray, "get", fail_once)
    pool = pools(config, actors=1, limits=QUICK, say=said.append)
    assert rows(pool.run(pieces([["a green house"], ["a red house"]]), work=2)) == {0: OK, 1: OK}
    assert len(said) == 1
    assert "a shard is sent again" in said[0] or "starting another" in said[0]


def test_where_ray_keeps_failing_the_run_ends_with_its_reason(pools):
    pool = pools(TroubledConfig(ray_error="OutOfDiskError"), actors=1, limits=Limits(pause=1e-9))
    with pytest.raises(UserError, match="Ray keeps failing with OutOfDiskError"):
        list(pool.run(pieces([["a house"]]), work=1))


def test_a_parser_that_stops_with_a_sentence_loses_none_of_its_pieces(pools, tmp_path):
    said = []
    config = TroubledConfig(refuses="red", once=str(tmp_path / "once"))
    pool = pools(config, actors=1, limits=QUICK, say=said.append)
    shards = [["a green house"], ["a red house"], ["a blue house"]]
    assert rows(pool.run(pieces(shards), work=3)) == {0: OK, 1: OK, 2: OK}
    assert said == ["a parser stopped (the node has forgotten the model); trying again"]


def test_a_parser_that_always_stops_with_a_sentence_ends_the_run_with_it(pools):
    pool = pools(TroubledConfig(refuses="red"), actors=1, limits=QUICK)
    with pytest.raises(UserError, match="the node has forgotten the model"):
        list(pool.run(pieces([["a red house"]]), work=1))


def test_a_caption_that_raises_becomes_a_failed_row_alone(pools):
    shards = [[f"caption {n} of shard {s}" for n in range(9)] for s in range(3)]
    shards[1][4] = "a dreadful caption"
    pool = pools(TroubledConfig(raises="dreadful"), actors=1)
    results = list(pool.run(pieces(shards), work=3))
    found = rows(results)
    assert found.pop(13) == FAILED
    assert found == {n: OK for n in range(27) if n != 13}
    errors = [row["error"] for r in results if r for row in r[1].to_pylist() if row["error"]]
    assert errors == ["the parser failed: ValueError: this caption is beyond me"]


def test_a_parser_that_raises_at_every_caption_is_a_defect_and_ends_the_run(pools):
    pool = pools(TroubledConfig(raises="a"), actors=1)
    with pytest.raises(RuntimeError, match="keeps failing with ValueError: this caption is beyond"):
        list(pool.run(pieces([["a b", "a c", "a d", "a e"]] * 40), work=40))


def test_a_start_that_hangs_ends_with_a_sentence(pools):
    said = []
    limits = Limits(start=1.0, pause=0.01)
    pool = pools(TroubledConfig(start_seconds=3600), actors=1, limits=limits, say=said.append)
    with pytest.raises(
        UserError, match=r"no parser has started within 1 s, in two attempts: .*--st"
    ):
        list(pool.run(pieces([["a house"]]), work=1))
    assert said == [
        "a parser died while starting (it had not started within 1 s); starting another"
    ]


def test_pieces_that_are_not_there_yet_are_waited_for_and_the_state_says_so(pools):
    pool = pools(FakeConfig(), actors=1)

    def slowly():
        for piece in pieces([["a house"], ["a tree"]]):
            for _ in range(5):
                yield None
            yield piece

    states, found = set(), []
    for result in pool.run(slowly()):
        states.add(pool.state())
        found.append(result)
    assert rows(found) == {0: OK, 1: OK}
    assert "1 parsers wait for captions" in states


def test_after_the_limit_the_actors_that_have_nothing_to_do_go(pools):
    pool = pools(FakeConfig(cpus=0.25))
    done = list(pool.run(iter(pieces([["a house"], ["a tree"]]))))
    assert rows(done) == {0: OK, 1: OK}
    pool.limit(1)
    assert len(worker_processes()) >= 1
    assert len(pool._members) == 1
