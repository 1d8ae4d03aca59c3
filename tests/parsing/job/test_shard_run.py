"""A run as a whole, in this process: shards are parsed while captions are read, and starts are kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from parsing.fake_parser import FakeConfig
from parsing.job.driver import run
from parsing.job.settings import RunSettings
from parsing.job.silence import Silence
from parsing.source import captions as source
from parsing.source.captions import Selection
from parsing.source.readers import Source

pytestmark = pytest.mark.cluster


@pytest.fixture
def settings(tmp_path) -> RunSettings:
    path = tmp_path / "captions.tsv"
    path.write_text("".join(f"https://a/{n}\ta green house number {n}\n" for n in range(60)))
    return RunSettings(
        Source((str(path),)), Selection(shard_size=10), str(tmp_path / "tags"), address="local"
    )


def parse(settings: RunSettings) -> Path:
    return Path(run(settings, lambda has_gpus: FakeConfig(), Silence()).url)


def manifest(settings: RunSettings) -> dict:
    return json.loads((Path(settings.output) / "manifest.json").read_text())


def after_each_batch(monkeypatch, act) -> None:
    """Calls `act` with the number of batches of ten rows that the pass has read and written."""
    real = source.unique_captions

    def watched(*arguments):
        for number, batch in enumerate(real(*arguments)):
            yield batch
            act(number + 1)

    monkeypatch.setattr(source, "BATCH_ROWS", 10)
    monkeypatch.setattr(source, "unique_captions", watched)


def ids(output: Path) -> list[int]:
    return [
        n for p in sorted(output.glob("part-*.parquet")) for n in pq.read_table(p)[0].to_pylist()
    ]


def test_the_first_shard_is_committed_while_the_captions_are_still_read(settings, monkeypatch):
    output, committed = Path(settings.output), []

    def wait_for_a_commit(batches: int) -> None:
        end = time.monotonic() + 200
        while not (found := list(output.glob("part-*.json"))) and time.monotonic() < end:
            time.sleep(0.1)
        committed.append(len(found))

    after_each_batch(monkeypatch, wait_for_a_commit)
    parse(settings)
    assert committed[0] >= 1
    assert ids(output) == list(range(60))
    assert manifest(settings)["counts"]["rows"] == 60


def test_a_pass_that_fails_half_way_keeps_what_was_parsed_and_what_it_cost(settings, monkeypatch):
    output = Path(settings.output)

    def fail_after_a_commit(batches: int) -> None:
        end = time.monotonic() + 200
        while not list(output.glob("part-*.json")) and time.monotonic() < end:
            time.sleep(0.1)
        raise UserError("the network is gone")

    after_each_batch(monkeypatch, fail_after_a_commit)
    with pytest.raises(UserError, match="the network is gone"):
        parse(settings)
    [start] = manifest(settings)["sessions"]
    assert start["commits"] == len(list(output.glob("part-*.json"))) == 1
    assert start["versions"]["ray"]
    assert not start["ended"]
    committed = {p.name: p.stat().st_mtime_ns for p in output.glob("part-*.json")}
    monkeypatch.undo()
    # The identity of some sources says little: what was parsed is compared with what is read now.
    monkeypatch.setattr(Source, "identity", lambda self: {"files": ["one"]})
    begun = output / "captions" / source.BEGUN
    wanted = {"files": ["one"], "limit": None, "sample": None, "shard_size": 10}
    begun.write_text(json.dumps({"selection": wanted}))
    path = Path(settings.source.paths[0])
    before = path.read_text()
    path.write_text(before.replace("number 3\n", "number three\n"))
    with pytest.raises(UserError, match="was parsed from other captions than the input has now"):
        parse(settings)
    path.write_text(before)
    parse(settings)
    assert ids(output) == list(range(60))
    times = {p.name: p.stat().st_mtime_ns for p in output.glob("part-*.json")}
    assert committed.items() <= times.items(), "a committed shard was parsed again"
    starts = manifest(settings)["sessions"]
    assert [start["ended"] for start in starts] == [False, False, True]
    assert starts[2]["commits"] == 5
    assert starts[2]["actor_hours"] > 0


def test_a_finished_run_is_noted_as_one_more_start_that_cost_nothing(settings):
    parse(settings)
    parse(settings)
    assert [start["commits"] for start in manifest(settings)["sessions"]] == [6, 0]
    assert manifest(settings)["sessions"][1]["actor_hours"] == 0
