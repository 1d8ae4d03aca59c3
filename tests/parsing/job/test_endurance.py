"""How much is put up with, and from when it is counted."""

from __future__ import annotations

import pytest

from parsing.job import endurance as module
from parsing.job.endurance import (
    BUSY_SECONDS,
    LONGEST_PAUSE,
    MAX_DEATHS_WITHOUT_PROGRESS,
    Endurance,
    Limits,
)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def test_patience_counts_from_the_last_sign_of_life_and_not_from_the_start(clock):
    endurance = Endurance(Limits(room=60))

    def too_long(has_room: bool = False) -> bool:
        return endurance.no_room_for_too_long(lambda: has_room)

    endurance.living(0)
    clock.now += 50
    assert not too_long()
    endurance.living(1)
    clock.now += 7 * 86_400
    endurance.living(1)
    clock.now += 50
    endurance.living(0)
    assert not too_long(), "the only node went less than a minute ago"
    clock.now += 11
    endurance.living(0)
    assert too_long()
    assert not too_long(has_room=True), "others hold it, or the node is slow"
    clock.now += BUSY_SECONDS
    assert too_long(has_room=True)


def test_a_mass_preemption_does_not_shrink_what_is_tolerated():
    endurance = Endurance(Limits())
    endurance.living(96)
    endurance.living(0)
    endurance.deaths += 96 + MAX_DEATHS_WITHOUT_PROGRESS
    assert not endurance.too_many_deaths
    endurance.deaths += 1
    assert endurance.too_many_deaths
    endurance.progress()
    assert not endurance.too_many_deaths


def test_pauses_grow_with_failures_in_a_row_and_end_with_progress():
    endurance = Endurance(Limits(pause=1.0))
    endurance.living(2)
    pauses = []
    for _ in range(12):
        endurance.deaths += 1
        pauses.append(endurance.pause)
    assert pauses[:6] == [0, 0, 1, 2, 4, 8]
    assert max(pauses) == LONGEST_PAUSE
    endurance.progress()
    assert endurance.pause == 0
