"""What came of each run of `workflows/chaos.py`, and the table of all."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.errors import UserError
from parsing.tags import FAILED
from workflows.chaos_faults import POISON


@dataclass
class Outcome:
    """One run, with all its starts.

    Attributes:
        number: of the run in its campaign, from 0.
        lasting: whether the fault lasted, instead of striking at moments.
        moments: the share of the shards that was committed when it struck, for each time.
        ended: whether the last start ended with success.
        lost, doubled, other: rows that are missing, too many, or not as in the undisturbed run.
        silence: the longest time between two lines, seconds.
        left: processes that did not end.
        ends: exit code and last line of each start.
        said: all lines of all starts.
    """

    fault: str
    number: int = 0
    lasting: bool = False
    moments: list[float] = field(default_factory=list)
    starts: int = 0
    ended: bool = False
    lost: int = 0
    doubled: int = 0
    other: int = 0
    silence: float = 0.0
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0
    ends: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def times(self) -> int:
        return len(self.moments)

    @property
    def midway(self) -> int:
        """How often it struck after the first commit and before the last."""
        return sum(0 < moment < 1 for moment in self.moments)

    @property
    def survived(self) -> bool:
        return self.ended and not (self.lost or self.doubled or self.other)

    def line(self) -> str:
        struck = ", ".join(f"at {moment:.0%}" for moment in self.moments) or "never"
        what = "survived" if self.survived else "LOST: " + " | ".join(self.said[-6:])
        return (
            f"{self.number}. {self.fault}: {'lasted' if self.lasting else f'struck {struck}'}, "
            f"{self.starts} starts, "
            f"{self.seconds:.0f} s, silence {self.silence:.0f} s, {len(self.left)} processes left, {what}"
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


class Results:
    """What came of the runs of a campaign, also on disk, so that it can go on after a stop.

    Args:
        path: of a JSONL file, first the settings and then a line for each run; None keeps none.
        settings: what decides how the runs go.

    Attributes:
        outcomes: by the number of the run.

    Raises:
        UserError: the file is of a campaign with other settings, or is no such file.
    """

    def __init__(self, path: str | None, settings: dict[str, Any]):
        self._path = None if path is None else Path(path)
        self.outcomes: dict[int, Outcome] = {}
        if self._path is None:
            return
        if not self._path.exists():
            self._append(settings)
            return
        try:
            first, *others = map(json.loads, self._path.read_text().splitlines())
            self.outcomes = {each["number"]: Outcome(**each) for each in others}
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} holds no results of a campaign: {error}") from error
        if first != settings:
            raise UserError(f"{path} is of a campaign with other settings: {json.dumps(first)}")

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.number] = outcome
        if self._path is not None:
            said = [] if outcome.survived else outcome.said
            self._append(asdict(replace(outcome, said=said)))

    def _append(self, line: dict[str, Any]) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")


def report(outcomes: list[Outcome]) -> str:
    """A Markdown table, one row for each kind of fault and one for all."""
    kinds = sorted({outcome.fault for outcome in outcomes})
    lines = [
        "| fault | runs | times injected | of them midway | survived | rows lost | rows doubled | rows that differ "
        "| starts | longest silence, s | processes left |",
        "|---|" + "--:|" * 10,
    ]
    for kind in [*kinds, None]:
        some = [each for each in outcomes if kind in (each.fault, None)]
        cells = [
            kind or "all",
            len(some),
            *(
                ["lasting"] * 2
                if all(each.lasting for each in some)
                else [sum(each.times for each in some), sum(each.midway for each in some)]
            ),
            sum(each.survived for each in some),
            sum(each.lost for each in some),
            sum(each.doubled for each in some),
            sum(each.other for each in some),
            sum(each.starts for each in some),
            f"{max((each.silence for each in some), default=0):.0f}",
            sum(len(each.left) for each in some),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
