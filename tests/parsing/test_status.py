"""How far a run is: read from folders as runs leave them, at every moment of a run."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from common.errors import UserError
from common.storage import Folder
from parsing import status
from parsing.job.run_folder import RunFolder
from parsing.status import main, read_status, report
from parsing.tags import EMPTY, FAILED, OK, TAGS, TOO_LONG, Parsed, count_statuses, tags_table

NOW = 1_000_000.0


class Run:
    """Writes a run's folder as the driver does."""

    def __init__(self, url: str):
        self.folder = RunFolder(url)
        self.folder.folder.make()
        self.folder.folder.write_json("manifest.json", {"fingerprint": {"parser": "llm"}})
        self.lines = b""

    def manifest(self, **entries) -> None:
        self.folder.update_manifest(**entries)

    def commit(self, shard: int, errors: list[str | None], moment: float = NOW) -> None:
        """A shard of one row per error, None for a row that is `ok`."""
        parsed = [Parsed(status=FAILED, error=e) if e else Parsed(["dog"]) for e in errors]
        table = tags_table(list(range(len(errors))), ["a dog"] * len(errors), parsed)
        stats = {"rows": len(errors), "statuses": count_statuses(parsed), "output_tokens": 10}
        self.folder.commit(shard, table, stats)
        name = f"part-{shard:06}.json"
        stats = self.folder.folder.read_json(name) | {"committed": moment}
        self.folder.folder.write_json(name, stats)

    def line(self, moment: float, captions: int, start: float = NOW - 3600, **more) -> None:
        figures = {"time": moment, "start": start, "captions": captions, "tokens": 6 * captions}
        figures |= {"total": 1000, "engines": 2, "queued": 1, "actor_hours": 1.0} | more
        self.lines += json.dumps(figures).encode() + b"\n"
        self.folder.folder.write("metrics.jsonl", self.lines)


@pytest.fixture(params=["disk", "store"])
def run(request, tmp_path, memory) -> Run:
    return Run(str(tmp_path / "tags") if request.param == "disk" else "memory://tags")


def test_a_run_that_goes_on_says_how_far_how_fast_and_how_long(run):
    run.manifest(model="small", shards=100, sessions=[
        {"began": NOW - 9000, "seconds": 10, "actor_hours": 3.0, "gpus_an_actor": 2},
        {"began": NOW - 3600, "seconds": 10, "actor_hours": 1.0, "gpus_an_actor": 2},
    ])  # fmt: skip
    for shard in range(20):
        run.commit(shard, [None] * 10, NOW - 100)
    run.line(NOW - 9000, 5000, start=NOW - 9000)  # an earlier start, and much faster
    run.line(NOW - 3000, 0)
    run.line(NOW - 400, 100)
    run.line(NOW - 10, 295)
    found = read_status(run.folder.url, NOW)
    assert (found.state, found.done, found.total, found.shards) == ("running", 200, 1000, 20)
    assert found.rate == pytest.approx(0.5)
    assert found.token_rate == pytest.approx(3.0)
    assert found.seconds_left == pytest.approx(1600)
    text = report(found, NOW)
    assert text.splitlines()[0] == "small: running, last sign of life 10 s ago"
    assert "200 of 1,000 (20.0%) captions in 20 of 100 shards" in text
    assert "0.5 captions/s, 3 tokens/s out, 2 engines" in text
    assert "26 min left" in text
    assert "8.00 GPU-hours in 2 starts, about 40.00 in all" in text
    assert "no failures" in text


def test_a_run_that_was_killed_is_stopped_and_its_rate_is_its_last(run):
    run.commit(0, [None] * 10, NOW - 80_000)
    run.commit(1, [None] * 50, NOW - 79_900)
    found = read_status(run.folder.url, NOW)
    assert found.state == "stopped"
    assert found.rate == pytest.approx(0.5)
    assert found.total is None
    assert "stopped, last sign of life 22 h 11 min ago: the same command goes on" in report(
        found, NOW
    )
    assert "60 captions in 2 shards, the input is not read to its end yet" in report(found, NOW)


def test_a_run_that_has_only_begun_says_so(run):
    text = report(read_status(run.folder.url, NOW), NOW)
    assert "0 captions in 0 shards, the input is not read to its end yet" in text
    assert "left" not in text


def test_a_finished_run_has_nothing_left_and_its_whole_cost(run):
    run.manifest(finished=True, shards=1, sessions=[
        {"began": NOW - 90, "seconds": 80.0, "actor_hours": 0.5, "gpus_an_actor": 0}
    ])  # fmt: skip
    run.commit(0, [None] * 4, NOW - 10)
    run.line(NOW - 8, 4, total=4)
    found = read_status(run.folder.url, NOW)
    assert (found.state, found.seconds_left, found.total) == ("finished", None, 4)
    text = report(found, NOW)
    assert "finished 8 s ago" in text
    assert "0.50 engine-hours in 1 start" in text
    assert "in all" not in text


def test_failures_are_told_by_kind_most_frequent_first(run):
    run.commit(0, [None, "line 3: not UTF-8", "line 17: not UTF-8", None])
    run.commit(1, ["2 parsers died while they had this caption", "line 1,204: not UTF-8"])
    run.commit(2, ["the endpoint said 500: no room for 'a dog'", "the endpoint said 429: wait"])
    found = read_status(run.folder.url, NOW)
    assert found.statuses == {OK: 2, FAILED: 6, EMPTY: 0, TOO_LONG: 0}
    assert found.failures == [
        ("line …: not UTF-8", 3),
        ("… parsers died while they had this caption", 1),
        ("the endpoint said 500: no room for …", 1),
        ("the endpoint said 429: wait", 1),
    ]
    assert "6 failed\n  3 x line …: not UTF-8\n" in report(found, NOW)


def test_failures_of_very_many_shards_are_not_all_read(run, monkeypatch):
    monkeypatch.setattr(status, "MOST_FAILED_SHARDS", 2)
    for shard in range(5):
        run.commit(shard, ["no"])
    found = read_status(run.folder.url, NOW)
    assert (found.failures, found.unread) == ([("no", 2)], 3)
    assert "and those of 3 more shards" in report(found, NOW)


def test_a_shard_that_is_being_written_does_not_count(run):
    run.commit(0, [None])
    run.folder.folder.write("part-000001.json", b'{"rows": 1, "statuses": {"ok": 1}}')  # no tags
    run.folder.folder.write_table("part-000002.parquet", pa.table({}, pa.schema([])))  # no stats
    run.folder.folder.write_table("part-000003.parquet", TAGS.empty_table())
    run.folder.folder.write("part-000003.json", b'{"rows": 1, "stat')  # cut off
    assert read_status(run.folder.url, NOW).shards == 1


def test_what_is_no_run_is_told_in_one_sentence(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("")
    (tmp_path / "file").write_text("")
    for name, sentence in (
        ("nowhere", "is empty or not there"),
        ("other", "holds no run"),
        ("file", "is a file: give the folder of a run"),
    ):
        assert main([str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {tmp_path / name} {sentence}")
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"fingerprint": 3}',
        b'{"fingerprint": {}, "sessions": 4}',
        b'{"fingerprint": {}, "sessions": [4]}',
        b'{"fingerprint": {}, "sessions": [{"began": "today"}]}',
    ],
)
def test_a_damaged_manifest_is_told(run, text):
    run.folder.folder.write("manifest.json", text)
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_status(run.folder.url)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("part-000001.json", b"[]"),
        ("part-000001.json", b'{"rows": 3, "statuses": [1]}'),
        ("part-000001.json", b'{"rows": "3", "statuses": {"ok": 3}}'),
        ("part-000001.json", b'{"rows": 3, "statuses": {"ok": "3"}}'),
        ("metrics.jsonl", b'{"time": "x", "start": 3, "captions": 5}\n'),
        ("metrics.jsonl", b'{"time": 3, "start": 3, "captions": null}\n'),
        ("metrics.jsonl", b'{"time": 3, "start": 3, "captions": 5, "tokens": []}\n'),
    ],
)
def test_a_damaged_file_is_left_out_and_the_others_are_counted(run, name, text):
    run.manifest(sessions=[{"seconds": 3}])
    run.commit(0, [None, "said 500"])
    run.commit(1, [None])
    run.folder.folder.write(name, text)
    status = read_status(run.folder.url, NOW)
    assert status.shards == (1 if "part" in name else 2)
    assert "1 failed" in report(status, NOW)
    if "part" in name:  # the stats in the tags' footer count for a run that goes on
        assert sorted(run.folder.committed()) == [0]


def test_reading_changes_nothing_and_takes_no_lock(tmp_path):
    run = Run(str(tmp_path / "tags"))
    run.commit(0, [None])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tags").rglob("*")}
    with Folder(tmp_path / "tags").lock():
        before[tmp_path / "tags" / ".lock"] = (tmp_path / "tags" / ".lock").stat().st_mtime_ns
        read_status(run.folder.url)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "tags").rglob("*")}
