"""What came of each run of `workflows/chaos.py`, and the table of all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from parsing.tags import FAILED
from workflows.chaos_faults import POISON


@dataclass
class Outcome:
    """One run, with all its starts.

    Attributes:
        times: how often the fault struck.
        ended: whether the last start ended with success.
        lost, doubled, other: rows that are missing, too many, or not as in the undisturbed run.
        silence: the longest time between two lines, seconds.
        orphans: processes that were left.
        said: all lines of all starts.
    """

    fault: str
    times: int = 0
    starts: int = 0
    ended: bool = False
    lost: int = 0
    doubled: int = 0
    other: int = 0
    silence: float = 0.0
    orphans: int = 0
    seconds: float = 0.0
    said: list[str] = field(default_factory=list)

    @property
    def survived(self) -> bool:
        return self.ended and not (self.lost or self.doubled or self.other)

    def line(self, number: int) -> str:
        what = "survived" if self.survived else "LOST: " + " | ".join(self.said[-6:])
        return (
            f"{number}. {self.fault}: struck {self.times} times, {self.starts} starts, "
            f"{self.seconds:.0f} s, silence {self.silence:.0f} s, {self.orphans} orphans, {what}"
        )


def compare(
    outcome: Outcome, expected: pa.Table, found: pa.Table | None, poisoned: bool = False
) -> None:
    """Counts the rows of a run against those of the undisturbed one.

    Args:
        poisoned: whether the caption that holds `POISON` had to fail, and nothing else.
    """
    wanted = {row["caption_id"]: row for row in expected.to_pylist()}
    rows = [] if found is None else found.to_pylist()
    counts = Counter(row["caption_id"] for row in rows)
    outcome.lost = sum(each not in counts for each in wanted)
    outcome.doubled = sum(count - 1 for count in counts.values())
    for row in rows:
        if poisoned and POISON in row["caption"]:
            outcome.other += row["status"] != FAILED
        else:
            outcome.other += row != wanted.get(row["caption_id"])


def report(outcomes: list[Outcome]) -> str:
    """A Markdown table, one row for each kind of fault and one for all."""
    kinds = sorted({outcome.fault for outcome in outcomes})
    lines = [
        "| fault | runs | times injected | survived | rows lost | rows doubled | rows that differ "
        "| starts | longest silence, s | processes left |",
        "|---|" + "--:|" * 9,
    ]
    for kind in [*kinds, None]:
        some = [each for each in outcomes if kind in (each.fault, None)]
        cells = [
            kind or "all",
            len(some),
            sum(each.times for each in some),
            sum(each.survived for each in some),
            sum(each.lost for each in some),
            sum(each.doubled for each in some),
            sum(each.other for each in some),
            sum(each.starts for each in some),
            f"{max((each.silence for each in some), default=0):.0f}",
            sum(each.orphans for each in some),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
