"""Every start is in the manifest from its beginning, with what it cost so far."""

from __future__ import annotations

import types

from parsing.fake_parser import FakeConfig
from parsing.job.run_folder import RunFolder
from parsing.job.starts import Starts


def test_a_start_that_is_killed_stays_with_its_versions_and_cost(tmp_path):
    run = RunFolder(str(tmp_path / "run"))
    with run.opened({"parser": "fake"}):
        first = Starts(run, began=1000.0)
        first.begin(FakeConfig())
        assert run.manifest()["sessions"][0]["versions"]["ray"]
        first.committed()
        first.input_read()
        first.stopped(types.SimpleNamespace(ready=1, actor_seconds=lambda: 7200.0))
        second = Starts(run, began=2000.0)  # the first one was killed
        second.begin(FakeConfig())
        second.end()
    sessions = run.manifest()["sessions"]
    assert [each["actor_hours"] for each in sessions] == [2.0, 0.0]
    assert [each["commits"] for each in sessions] == [1, 0]
    assert [each["ended"] for each in sessions] == [False, True]
    assert sessions[0]["seconds_to_parsers"] is not None
    assert sessions[0]["seconds_to_input_read"] >= sessions[0]["seconds_to_first_commit"] > 0
    assert sessions[1]["seconds_to_input_read"] is None  # there was nothing left to read
