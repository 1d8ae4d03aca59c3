"""What a killed process has started is killed as well; what a closed one has started is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

# An actor with an engine: a child that has a child, both deaf to everything but SIGKILL.
ENGINE = """
import signal, subprocess, sys, time
for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(each, signal.SIG_IGN)
if len(sys.argv) > 1:
    worker = subprocess.Popen([sys.executable, __file__], start_new_session=True)
    print(worker.pid, flush=True)
time.sleep(600)
"""
ACTOR = """
import subprocess, sys
from parsing.llm.guard import Guard
guard = Guard()
engine = subprocess.Popen([sys.executable, sys.argv[1], "with a worker"], stdout=subprocess.PIPE, text=True)
print(guard._process.pid, engine.pid, engine.stdout.readline().strip(), flush=True)
sys.stdin.readline()
guard.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def actor(tmp_path, root) -> Iterator[tuple[subprocess.Popen, list[psutil.Process]]]:
    """The actor, and its guard, engine and engine's worker."""
    (tmp_path / "engine.py").write_text(ENGINE)
    process = subprocess.Popen(
        [sys.executable, "-c", ACTOR, str(tmp_path / "engine.py")],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    family = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    yield process, family
    for each in (process, *family):
        if each.poll() is None if each is process else each.is_running():
            each.kill()
    process.communicate()


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    end = time.monotonic() + 20
    while alive(processes):
        assert time.monotonic() < end, f"still there: {alive(processes)}"
        time.sleep(0.1)


def test_an_engine_whose_actor_is_killed_leaves_no_process(actor):
    process, family = actor
    time.sleep(1)  # the guard has looked
    assert len(alive(family)) == 3
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_gone(family)


def test_a_guard_that_was_closed_kills_nothing(actor):
    process, family = actor
    guard, *engine = family
    process.stdin.write("close\n")
    process.stdin.flush()
    assert process.stdout.readline() == "closed\n"
    assert not alive([guard])
    process.kill()
    process.wait()
    time.sleep(1)
    assert len(alive(engine)) == 2
