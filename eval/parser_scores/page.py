"""Scores of parsers as an HTML page: the figures, then each caption's right, wrong and missed tags.

The page is the paper's Figure 4 for any captions, with a section per gold file. It is one file without
scripts, fits desktop and phone screens, and marks right, wrong, missed and arguable tags by sign and
border as well as by colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from eval.parser_scores.report import rate, seconds, shown
from eval.parser_scores.scoreboard import Judged, Scoreboard
from eval.parser_scores.tag_scores import KINDS, Comparison, Score
from parsing.tags import OK

TEMPLATE = Path(__file__).with_name("page.html.jinja")
_VERDICTS = (("right", "✓"), ("wrong", "✗"), ("missed", "○"), ("arguable", "~"))


def page(boards: Sequence[Scoreboard], captions: int) -> str:
    """Renders the page; captions, tags and names are escaped.

    Args:
        boards: one per gold file.
        captions: how many captions of each file are shown.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        boards=[_board(board, captions) for board in boards]
    )


def _board(board: Scoreboard, shown_captions: int) -> dict[str, Any]:
    count = len(board.gold.captions)
    return {
        "name": board.gold.name,
        "path": board.gold.path,
        "about": board.about,
        "count": count,
        "names": [one.answers.name for one in board.judged],
        "figures": [
            (name, [(*_split(shown(s)), _percent(s.value)) for s in scores])
            for name, scores in _figures(board.judged)
        ],
        "gains": [
            (f"{kind} F1", [_split("" if s is None else shown(s, "+")) for s in scores])
            for kind, scores in (board.gains.items() if len(board.judged) > 1 else ())
        ],
        "rates": [rate(one.answers.rate) for one in board.judged],
        "cold_starts": [seconds(one.answers.cold_start) for one in board.judged],
        "captions": [_caption(board, place) for place in range(min(shown_captions, count))],
    }


def _figures(judged: Sequence[Judged]) -> list[tuple[str, list[Score]]]:
    """The rows of the table of figures: (name, one score per parser)."""
    figures = []
    for kind in KINDS:
        for figure in ("precision", "recall", "f1"):
            name = f"{kind} {'F1' if figure == 'f1' else figure}"
            figures.append((name, [getattr(one.scores, figure)[kind] for one in judged]))
    figures.append(("exact match", [one.scores.exact for one in judged]))
    figures.append(("ungrounded tags", [one.scores.ungrounded for one in judged]))
    return figures


def _split(text: str) -> tuple[str, str]:
    """A figure and its interval."""
    value, _, interval = text.partition(" ")
    return value, interval


def _percent(value: float) -> int:
    return 0 if value != value else round(100 * value)


def _caption(board: Scoreboard, place: int) -> dict[str, Any]:
    item = board.gold.captions[place]
    return {
        "text": item.caption,
        "gold": _tags(item.objects, item.attributes),
        "maybe": _tags(item.maybe, item.maybe_attributes),
        "solved": all(one.comparisons[place].exact for one in board.judged),
        "parsers": [
            {
                "name": one.answers.name,
                "exact": one.comparisons[place].exact,
                "error": _error(one, place),
                "objects": marked(one.comparisons[place], "objects"),
                "pairs": marked(one.comparisons[place], "pairs"),
            }
            for one in board.judged
        ],
    }


def _tags(objects: Sequence[str], attributes: Sequence[tuple[str, str]]) -> str:
    return ", ".join([*objects, *map(" → ".join, attributes)])


def _error(one: Judged, place: int) -> str:
    parsed = one.answers.parsed[place]
    return "" if parsed.status == OK else f"{parsed.status}: {parsed.error or 'no reason given'}"


def marked(comparison: Comparison, kind: str) -> list[tuple[str, str, str]]:
    """(verdict, sign, tag) of every tag of the parser or the gold; verdicts as in `Comparison`."""
    return [
        (verdict, sign, tag if kind == "objects" else " → ".join(tag))
        for verdict, sign in _VERDICTS
        for tag in getattr(comparison, verdict)[kind]
    ]
