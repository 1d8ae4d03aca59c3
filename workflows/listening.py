"""What a command prints, with the longest time between two lines."""

from __future__ import annotations

import threading
import time
from typing import IO


class Listener:
    """Reads a pipe to its end, in a thread.

    Attributes:
        lines: all that was printed.
    """

    def __init__(self, pipe: IO[bytes]):
        self.lines: list[str] = []
        self._pipe, self._longest, self._last = pipe, 0.0, time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def finish(self) -> float:
        """Waits for the end; returns the longest silence, in seconds."""
        self._thread.join(timeout=5)
        return self._longest

    def _read(self) -> None:
        for line in self._pipe:
            self._note()
            self.lines.append(line.decode(errors="replace").rstrip("\n"))
        self._note()

    def _note(self) -> None:
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now
