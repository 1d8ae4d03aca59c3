"""Scores of parsers as one HTML page: the figures, then caption by caption what each got.

The page is the paper's Figure 4 for any captions: a single file without scripts, that reads on a
desk as on a phone, and in which right, wrong and missed differ in sign and line as well as in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from eval.parser_scores.gold import GoldCaption
from eval.parser_scores.report import Judged, differences, rate, rows, seconds, shown
from eval.parser_scores.settings import Settings
from eval.parser_scores.tag_scores import Comparison
from parsing.tags import OK

TEMPLATE = Path(__file__).with_name("page.html.jinja")
_VERDICTS = (("right", "✓"), ("wrong", "✗"), ("missed", "○"))


def page(settings: Settings, gold: Sequence[GoldCaption], judged: Sequence[Judged]) -> str:
    """The page; whatever comes from captions, tags and names is escaped.

    Args:
        settings: of the comparison; `shown` says how many captions are laid out.
        gold: the captions and their gold tags.
        judged: per parser, one answer and one comparison per caption.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    figures = [
        (name, [(*_split(shown(s)), _percent(s.value)) for s in scores])
        for name, scores in rows(judged)
    ]
    gaps = [
        (name, [_split("" if s is None else shown(s, "+")) for s in scores])
        for name, scores in (differences(settings, judged) if len(judged) > 1 else ())
    ]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        gold=settings.gold,
        count=len(gold),
        names=[one.answers.name for one in judged],
        figures=figures,
        gaps=gaps,
        rates=[rate(one.answers.rate) for one in judged],
        cold_starts=[seconds(one.answers.cold_start) for one in judged],
        captions=[_caption(place, gold, judged) for place in range(min(settings.shown, len(gold)))],
    )


def _split(text: str) -> tuple[str, str]:
    """A figure and its interval."""
    value, _, interval = text.partition(" ")
    return value, interval


def _percent(value: float) -> int:
    return 0 if value != value else round(100 * value)


def _caption(place: int, gold: Sequence[GoldCaption], judged: Sequence[Judged]) -> dict[str, Any]:
    item = gold[place]
    return {
        "text": item.caption,
        "gold": [
            *item.objects,
            *(f"{attribute} → {thing}" for attribute, thing in item.attributes),
        ],
        "solved": all(one.comparisons[place].exact for one in judged),
        "parsers": [
            {
                "name": one.answers.name,
                "exact": one.comparisons[place].exact,
                "error": _error(one, place),
                "objects": marked(one.comparisons[place], "objects"),
                "pairs": marked(one.comparisons[place], "pairs"),
            }
            for one in judged
        ],
    }


def _error(one: Judged, place: int) -> str:
    parsed = one.answers.parsed[place]
    return "" if parsed.status == OK else f"{parsed.status}: {parsed.error or 'no reason given'}"


def marked(comparison: Comparison, kind: str) -> list[tuple[str, str, str]]:
    """(verdict, sign, tag) of every tag that was given or wanted."""
    return [
        (verdict, sign, tag if kind == "objects" else " → ".join(tag))
        for verdict, sign in _VERDICTS
        for tag in getattr(comparison, verdict)[kind]
    ]
