"""What a check has found, and how checks are run so that none of them can end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from common.errors import UserError, reason

OK, WARNING, FAILED = "ok", "warning", "FAILED"


@dataclass(frozen=True)
class Finding:
    """One line of a preflight.

    Attributes:
        level: `OK`, `WARNING` or `FAILED`.
        sentence: what there is; where something is wrong, what to do.
        check: what was looked at; `run_check` fills it in.
    """

    level: str
    sentence: str
    check: str = ""

    def line(self) -> str:
        """For people."""
        return f"{self.level:8} {self.check:11} {' '.join(self.sentence.split())}"


def ok(sentence: str) -> Finding:
    return Finding(OK, sentence)


def warning(sentence: str) -> Finding:
    return Finding(WARNING, sentence)


def failed(sentence: str) -> Finding:
    return Finding(FAILED, sentence)


def run_check(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; whatever it raises becomes a finding too."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except UserError as error:
        found.append(failed(str(error)))
    except Exception as error:  # a preflight that breaks would hide what the other checks know
        text = f"this check itself broke, report it: {type(error).__name__}: {reason(error)}"
        found.append(failed(text))
    return [replace(one, check=one.check or name) for one in found]
