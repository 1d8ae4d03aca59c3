"""Prints what a run is doing when it has printed nothing for almost a minute."""

from __future__ import annotations

import os
import threading
import time
from typing import TextIO

from parsing.job.progress import duration

LONGEST = 50.0  # seconds without a line


class Silence:
    """Prints what the run does, from a thread of its own, whenever nothing else has been printed.

    The thread prints also while the driver waits for a disk or a network that does not answer.

    Args:
        stream: where lines go; None copies the present standard error, as `common.quiet` may
            redirect it later.
        longest: seconds without a line.
    """

    def __init__(self, stream: TextIO | None = None, longest: float = LONGEST):
        self._stream = stream or os.fdopen(os.dup(2), "w")
        self._longest = longest
        self._doing, self._since = "starting", time.monotonic()
        self._spoken = self._since
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Silence:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def doing(self, what: str) -> None:
        """Notes what is done from now on; it is printed only if it takes long."""
        if what != self._doing:
            self._doing, self._since = what, time.monotonic()

    def broken(self) -> None:
        """Notes that a line was printed now."""
        self._spoken = time.monotonic()

    def look(self) -> None:
        """Prints a line if there was none for too long."""
        now = time.monotonic()
        if now - self._spoken >= self._longest:
            self._spoken = now
            words = f"{self._doing}, for {duration(now - self._since)}"
            print(words, file=self._stream, flush=True)

    def _watch(self) -> None:
        while not self._over.wait(self._longest / 20):
            self.look()
