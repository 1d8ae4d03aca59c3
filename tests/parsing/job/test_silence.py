"""A run that says nothing says why, whatever the driver waits for."""

from __future__ import annotations

import io
import os
import time

import pytest

from common.quiet import output_in_file
from parsing.job import silence as module
from parsing.job.silence import Silence


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def test_what_takes_long_is_said_and_what_speaks_for_itself_is_not(clock):
    said = io.StringIO()
    silence = Silence(said, longest=50)
    silence.doing("writing shard 3 to a slow disk")
    for _ in range(10):
        clock.now += 40
        silence.look()
        silence.broken()
    assert said.getvalue() == ""
    silence.doing("counting tags")
    for _ in range(130):
        clock.now += 1
        silence.look()
        silence.doing("counting tags")
    assert said.getvalue() == "counting tags, for 50 s\ncounting tags, for 1 min\n"


def test_it_speaks_from_a_thread_of_its_own_while_the_driver_waits():
    said = io.StringIO()
    with Silence(said, longest=0.2) as silence:
        silence.doing("waiting for a disk")
        end = time.monotonic() + 60
        while not said.getvalue() and time.monotonic() < end:
            time.sleep(0.1)
    assert said.getvalue().startswith("waiting for a disk, for ")


def test_it_speaks_also_while_a_librarys_output_is_kept_from_the_terminal(capfd):
    with Silence(longest=0.2) as silence, output_in_file("test") as log:
        silence.doing("joining")
        time.sleep(1.5)
    os.unlink(log)
    assert "joining, for " in capfd.readouterr().err
