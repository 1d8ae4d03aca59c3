"""Progress of a run: a bar on a terminal, a line every 30 s in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

from parsing.tags import EMPTY, OK

LINE_SECONDS = 30
RATE_SECONDS = 120  # the rate and the time left look back this far


class Progress:
    """Counts of a run as they grow.

    Args:
        total: captions of the whole run; None while the input is still being read.
        done: captions of shards that were committed before this process began.
        unit: what an actor holds, for the cost: `GPU` or `CPU`.
        per_actor: how many of them.
        stream: where to print; a terminal gets a bar.
        spoken: called when a line was printed, or the bar moved.
    """

    def __init__(
        self,
        total: int | None,
        done: int = 0,
        unit: str = "CPU",
        per_actor: float = 1,
        stream: TextIO | None = None,
        spoken: Callable[[], None] = lambda: None,
    ):
        self._stream, self._spoken = stream or sys.stderr, spoken
        self._total, self._before, self._read = total, done, 0
        self._unit, self._per_actor = unit, per_actor
        self._captions = self._tokens = 0
        self._committed: Counter[str] = Counter()
        self._history: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])
        self._printed = time.monotonic()
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=done,
                unit=" captions",
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {postfix}",
            )

    def committed(self, statuses: dict[str, int]) -> None:
        """A shard is on disk; its rows by status."""
        self._committed.update(statuses)

    def read(self, images: int) -> None:
        """So many rows of the input have been read so far."""
        self._read = images

    def expect(self, total: int) -> None:
        """The input has been read: it has so many captions."""
        self._total = total
        if self._bar is not None:
            self._bar.total = total

    def parsed_again(self, captions: int) -> None:
        """So many captions of committed shards are parsed once more."""
        self._before -= captions

    def update(
        self,
        captions: int,
        tokens: int,
        actors: int,
        actor_seconds: float,
        state: str = "waiting for a parser to start",
    ) -> None:
        """What the actors have finished so far, in this process, committed or not.

        Args:
            state: what the actors do, for times when nothing is finished.
        """
        self._captions = max(captions, self._captions, sum(self._committed.values()))
        self._tokens = max(tokens, self._tokens)
        now = time.monotonic()
        if not self._captions:  # loading a model is no part of the rate
            self._history.clear()
        self._history.append((now, self._captions, self._tokens))
        while now - self._history[0][0] > RATE_SECONDS and len(self._history) > 2:
            self._history.popleft()
        if self._bar is not None:
            done = self._before + self._captions
            self._bar.n = done if self._total is None else min(done, self._total)
            self._bar.set_postfix_str(self._words(actors, actor_seconds, state))
            self._spoken()
        elif now - self._printed >= LINE_SECONDS:
            self._printed = now
            of = f" of {self._total:,}" if self._total is not None else ""
            done = f"{self._before + self._captions:,}{of} captions"
            if self._total is None:
                done += f", {self._read:,} rows of the input read so far"
            self.say(f"{done}, {self._words(actors, actor_seconds, state)}")

    def say(self, line: str) -> None:
        """Prints one line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)
        self._spoken()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _words(self, actors: int, actor_seconds: float, state: str) -> str:
        if not self._captions and not actors:
            return state
        (then, captions, tokens), now = self._history[0], self._history[-1][0]
        seconds = max(now - then, 1e-9)
        rate = (self._captions - captions) / seconds
        parts = [f"{rate:,.1f} captions/s"]
        if self._tokens:
            parts.append(f"{(self._tokens - tokens) / seconds:,.0f} tokens/s out")
        troubles = {k: n for k, n in self._committed.items() if n and k not in (OK, EMPTY)}
        parts.append(", ".join(f"{k} {n:,}" for k, n in sorted(troubles.items())) or "no failures")
        hours = actor_seconds * self._per_actor / 3600
        if rate <= 0:
            parts.append(state)
        elif self._total is not None:
            left = self._total - self._before - self._captions
            expected = hours + left / rate * actors * self._per_actor / 3600
            parts.append(f"{duration(left / rate)} left")
            parts.append(f"{hours:.2f} of about {expected:.2f} {self._unit}-hours")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `4 d 7 h`."""
    seconds = int(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60:02d} min" if days < 1 else f"{days} d {hours % 24} h"
