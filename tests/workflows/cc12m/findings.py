"""What the tests of the preflight's checks share."""

from __future__ import annotations

from collections.abc import Iterable

from workflows.cc12m.checks.finding import Finding
from workflows.cc12m.checks.machine import Card

A100 = Card("NVIDIA A100-SXM4-80GB", 81_920 << 20, 0, "570.1")


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def only(findings: Iterable[Finding], level: str) -> str:
    """The sentence of the one finding of that level."""
    found = [finding.sentence for finding in findings if finding.level == level]
    assert len(found) == 1, found
    return found[0]
