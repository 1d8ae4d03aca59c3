"""Scores of parsers as a table for the terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.parser_scores.answers import Answers
from eval.parser_scores.gold import GoldCaption
from eval.parser_scores.settings import Settings
from eval.parser_scores.tag_scores import (
    KINDS,
    Comparer,
    Comparison,
    Score,
    Scores,
    f1_difference,
    score,
)
from parsing.tags import OK


@dataclass(frozen=True)
class Judged:
    """A parser's answers with what came of comparing them: one comparison per gold caption."""

    answers: Answers
    comparisons: list[Comparison]
    scores: Scores

    @classmethod
    def of(
        cls, answers: Answers, gold: Sequence[GoldCaption], resamples: int = 1000, seed: int = 0
    ) -> Judged:
        """Compares answers with the gold tags of the same captions; the rest is as in `score`."""
        comparer = Comparer()
        pairs = zip(gold, answers.parsed, strict=True)
        comparisons = [comparer.compare(*pair) for pair in pairs]
        return cls(answers, comparisons, score(comparisons, resamples, seed))

    @property
    def unanswered(self) -> int:
        """Captions whose status is not `ok`; they count as captions without tags."""
        return sum(parsed.status != OK for parsed in self.answers.parsed)


def rows(judged: Sequence[Judged]) -> list[tuple[str, list[Score]]]:
    """The figures that are shown, as (name, one score per parser)."""
    shown = []
    for kind in KINDS:
        for figure in ("precision", "recall", "f1"):
            name = f"{kind} {'F1' if figure == 'f1' else figure}"
            shown.append((name, [getattr(one.scores, figure)[kind] for one in judged]))
    shown.append(("exact match", [one.scores.exact for one in judged]))
    shown.append(("ungrounded tags", [one.scores.ungrounded for one in judged]))
    return shown


def differences(
    settings: Settings, judged: Sequence[Judged]
) -> list[tuple[str, list[Score | None]]]:
    """F1 of each parser less that of the first, on the same draws; None for the first itself."""
    found = []
    for kind in KINDS:
        scores: list[Score | None] = [None]
        scores += [
            f1_difference(
                judged[0].comparisons, one.comparisons, kind, settings.resamples, settings.seed
            )
            for one in judged[1:]
        ]
        found.append((f"{kind} F1", scores))
    return found


def as_table(settings: Settings, judged: Sequence[Judged]) -> str:
    """Figures down, parsers across, each with its 95% interval."""
    names = [one.answers.name for one in judged]
    lines = [["", *names]]
    lines += [[name, *map(shown, scores)] for name, scores in rows(judged)]
    lines.append(["captions/s", *(rate(one.answers.rate) for one in judged)])
    lines.append(["cold start, s", *(seconds(one.answers.cold_start) for one in judged)])
    if any(one.unanswered for one in judged):
        lines.append(["not answered", *(str(one.unanswered) for one in judged)])
    if len(judged) > 1:
        lines.append([f"less {names[0]}'s", *("" for _ in judged)])
        for name, scores in differences(settings, judged):
            lines.append([f"  {name}", *("" if s is None else shown(s, "+") for s in scores)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    body = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    count = len(judged[0].comparisons)
    return f"{count:,} captions of {settings.gold}, 95% intervals by bootstrap\n\n{body}"


def as_json(settings: Settings, judged: Sequence[Judged]) -> dict[str, Any]:
    """All figures; what has no value (precision without any tag) is null."""
    gaps = dict(differences(settings, judged))
    return {
        "gold": settings.gold,
        "captions": len(judged[0].comparisons),
        "bootstrap": {"resamples": settings.resamples, "seed": settings.seed, "interval": 0.95},
        "parsers": [
            {
                "name": one.answers.name,
                "captions_per_second": one.answers.rate,
                "cold_start_seconds": one.answers.cold_start,
                "not_answered": one.unanswered,
                **{
                    kind: {
                        figure: _plain(getattr(one.scores, figure)[kind])
                        for figure in ("precision", "recall", "f1")
                    }
                    for kind in KINDS
                },
                "exact_match": _plain(one.scores.exact),
                "ungrounded": _plain(one.scores.ungrounded),
                "f1_less_first": {
                    kind: _plain(gap)
                    for kind in KINDS
                    if (gap := gaps[f"{kind} F1"][place]) is not None
                },
            }
            for place, one in enumerate(judged)
        ],
    }


def shown(score: Score, sign: str = "") -> str:
    """`0.916 [0.905, 0.927]`, or a dash where there is no value."""
    if math.isnan(score.value):
        return "-"
    return f"{score.value:{sign}.3f} [{score.low:{sign}.3f}, {score.high:{sign}.3f}]"


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _plain(score: Score) -> dict[str, float | None]:
    values = {"value": score.value, "low": score.low, "high": score.high}
    return {name: None if math.isnan(value) else value for name, value in values.items()}
