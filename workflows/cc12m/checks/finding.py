"""What a check has found, and how checks are run so that none of them can end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from parsing.errors import UserError, reason

OK, WARNING, FAILED = "ok", "warning", "FAILED"


@dataclass(frozen=True)
class Finding:
    """One line of a preflight.

    Attributes:
        check: what was looked at.
        level: `OK`, `WARNING` or `FAILED`.
        sentence: what there is; where it is not well, what to do.
    """

    check: str
    level: str
    sentence: str

    def line(self) -> str:
        """For people."""
        return f"{self.level:8} {self.check:11} {' '.join(self.sentence.split())}"


def run_check(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; whatever it raises becomes a finding too."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except UserError as error:
        found.append(Finding(name, FAILED, str(error)))
    except Exception as error:  # a preflight that breaks would hide what the other checks know
        text = f"this check itself broke, report it: {type(error).__name__}: {reason(error)}"
        found.append(Finding(name, FAILED, text))
    return found
