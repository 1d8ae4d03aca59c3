"""Limits on failures and waiting, beyond which a run ends and a person must look."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_DEATHS_WITHOUT_PROGRESS = 6  # in a row, beyond one for each actor
MAX_DEFECTS_WITHOUT_PROGRESS = 24  # exceptions: a shard of 2,000 is halved 11 times
MAX_RAY_FAULTS_WITHOUT_PROGRESS = 24
LONGEST_PAUSE = 60.0  # seconds between two attempts
PLACE_SECONDS = 40  # to wait for room where the cluster has none
BUSY_SECONDS = 300  # to wait where it has room that other jobs hold, or that slow nodes have


@dataclass(frozen=True)
class Limits:
    """Time limits in seconds.

    Attributes:
        room: for waiting while the cluster has no room for any actor.
        start: for a parser's start, from the moment it has its resources.
        answer: for a parser with work to answer at least one caption.
        pause: before the second attempt after a failure; doubled for each further attempt.
    """

    room: float = PLACE_SECONDS
    start: float = 3600.0
    answer: float = 900.0
    pause: float = 1.0


class Endurance:
    """Counts failures since the last progress. A finished piece sets all counts to zero."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.deaths = self.defects = self.ray_faults = self.late_starts = 0
        self._most = 0  # actors that lived at once; after a mass preemption fewer are left
        self._alive = time.monotonic()

    def living(self, count: int) -> None:
        """Notes how many actors have their resources now."""
        self._most = max(self._most, count)
        if count:
            self._alive = time.monotonic()

    def progress(self) -> None:
        self.deaths = self.defects = self.ray_faults = self.late_starts = 0

    @property
    def waited_for_room(self) -> float:
        """Seconds since an actor last had its resources, or since the start."""
        return time.monotonic() - self._alive

    def no_room_for_too_long(self, has_room: Callable[[], bool]) -> bool:
        """Whether nothing has run for too long.

        Args:
            has_room: whether the cluster would have room if no other job held it; called only after
                `Limits.room` seconds.
        """
        waited = self.waited_for_room
        return waited > self.limits.room and (waited > BUSY_SECONDS or not has_room())

    @property
    def too_many_deaths(self) -> bool:
        return self.deaths > MAX_DEATHS_WITHOUT_PROGRESS + self._most

    @property
    def too_many_defects(self) -> bool:
        return self.defects > MAX_DEFECTS_WITHOUT_PROGRESS

    @property
    def too_many_ray_faults(self) -> bool:
        return self.ray_faults > MAX_RAY_FAULTS_WITHOUT_PROGRESS

    @property
    def pause(self) -> float:
        """Seconds to wait before the next attempt; 0 after no failure."""
        failures = max(self.deaths + self.late_starts - self._most, 0) + self.ray_faults
        if not failures:
            return 0.0
        return min(LONGEST_PAUSE, self.limits.pause * 2.0 ** min(failures - 1, 30))
