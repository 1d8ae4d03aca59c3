"""Progress: a bar for a terminal, plain lines for a log, and figures that are right."""

from __future__ import annotations

import io

import pytest

from parsing.job import progress as module
from parsing.job.progress import LINE_SECONDS, Progress, duration
from parsing.tags import EMPTY, FAILED, OK, TOO_LONG


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


def test_a_log_gets_one_line_every_half_minute(clock):
    log = io.StringIO()
    progress = Progress(10_000, stream=log)
    for second in range(1, 121):
        clock.now = 1000.0 + second
        progress.update(10 * second, 0, 1, second)
    progress.close()
    lines = log.getvalue().splitlines()
    assert len(lines) == 120 // LINE_SECONDS
    assert lines[-1].startswith("1,200 of 10,000 captions, 10.0 captions/s, ")
    assert "\r" not in log.getvalue()


def test_a_line_says_all_that_a_run_is_watched_for(clock):
    log = io.StringIO()
    progress = Progress(20_000, done=2_000, unit="GPU", per_actor=2, stream=log)
    progress.committed({OK: 2_900, EMPTY: 60, TOO_LONG: 10, FAILED: 30})
    clock.now += 60
    # 3,000 captions in a minute on 3 actors of 2 GPUs: 50 captions/s, 15,000 to go take 300 s.
    progress.update(3_000, 27_000, actors=3, actor_seconds=1_800)
    assert log.getvalue() == (
        "5,000 of 20,000 captions, 50.0 captions/s, 450 tokens/s out, failed 30, too_long 10, "
        "5 min left, 1.00 of about 1.50 GPU-hours\n"
    )


def test_the_rate_is_that_of_the_last_minutes_and_not_of_the_start(clock):
    log = io.StringIO()
    progress = Progress(10**6, stream=log)
    for step in range(1, 101):  # 10 captions/s for 500 s, then 100 captions/s
        clock.now = 1000.0 + 10 * step
        progress.update(100 * step + max(0, step - 50) * 900, 0, 1, 0)
    lines = log.getvalue().splitlines()
    assert " 10.0 captions/s" in lines[10]
    assert " 100.0 captions/s" in lines[-1]


def test_before_the_first_parser_is_up_a_line_says_what_is_waited_for(clock):
    log = io.StringIO()
    progress = Progress(10, stream=log)
    clock.now += LINE_SECONDS
    progress.update(0, 0, 0, 0)
    assert log.getvalue() == "0 of 10 captions, waiting for a parser to start\n"


def test_while_the_input_is_read_a_line_says_how_far_and_nothing_of_time_left(clock):
    log = io.StringIO()
    progress = Progress(None, done=10, stream=log)
    progress.read(65_536)
    clock.now += LINE_SECONDS
    progress.update(300, 0, 1, 0)
    progress.expect(1_000)
    clock.now += LINE_SECONDS
    progress.update(600, 0, 1, 0)
    lines = log.getvalue().splitlines()
    assert lines[0].startswith(
        "310 captions, 65,536 rows of the input read so far, 10.0 captions/s"
    )
    assert "left" not in lines[0]
    assert lines[1].startswith("610 of 1,000 captions, 10.0 captions/s, no failures, 39 s left")


def test_a_line_in_which_nothing_moves_says_why(clock):
    log = io.StringIO()
    spoken = []
    progress = Progress(100, stream=log, spoken=lambda: spoken.append(clock.now))
    for _ in range(10):
        clock.now += LINE_SECONDS
        progress.update(50, 0, 0, 0, "waiting for room in the cluster for 4 min")
    last = log.getvalue().splitlines()[-1]
    assert last.endswith("0.0 captions/s, no failures, waiting for room in the cluster for 4 min")
    assert len(spoken) == 10


def test_counts_never_go_back_when_an_actor_dies_and_its_tally_with_it(clock):
    log = io.StringIO()
    progress = Progress(1_000, stream=log)
    progress.committed({OK: 200})
    progress.update(300, 900, 1, 0)
    clock.now += LINE_SECONDS
    progress.update(100, 300, 1, 0)
    assert log.getvalue().startswith("300 of 1,000 captions")
    progress.committed({OK: 250})
    clock.now += LINE_SECONDS
    progress.update(120, 400, 1, 0)
    assert log.getvalue().splitlines()[-1].startswith("450 of 1,000 captions")


def test_a_terminal_gets_a_bar_that_starts_where_the_run_left_off(clock):
    terminal = Terminal()
    progress = Progress(200, done=50, stream=terminal)
    clock.now += 1
    progress.update(50, 100, 1, 1)
    progress.say("a parser died")
    progress.close()
    shown = terminal.getvalue()
    assert " 25% |" in shown
    assert " 50% |" in shown
    assert "100/200" in shown
    assert "50.0 captions/s" in shown
    assert "a parser died\n" in shown


def test_captions_done_twice_after_a_death_do_not_push_the_bar_over_its_end(clock):
    terminal = Terminal()
    progress = Progress(100, done=90, stream=terminal)
    clock.now += 1
    progress.update(30, 0, 1, 1)
    progress.close()
    assert "100/100" in terminal.getvalue()
    assert "120/100" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h 00 min"),
        (12_000, "3 h 20 min"),
        (86_399, "23 h 59 min"),
        (371_000, "4 d 7 h"),
    ],
)
def test_durations_are_words_that_one_reads(seconds, words):
    assert duration(seconds) == words


def test_loading_a_model_is_no_part_of_the_rate(clock):
    log = io.StringIO()
    progress = Progress(1_000, stream=log)
    for second, captions in ((20, 0), (25, 0), (35, 100)):
        clock.now = 1000.0 + second
        progress.update(captions, 0, 1, second)
    assert log.getvalue().startswith("100 of 1,000 captions, 10.0 captions/s, ")
