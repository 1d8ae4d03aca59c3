"""Scores of parsers as tables for the terminal, no wider than 160 columns, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from eval.parser_scores.gold import told_apart
from eval.parser_scores.scoreboard import Judged, Scoreboard
from eval.parser_scores.tag_scores import KINDS, Score

_NAME = 20  # maximum length of a name, so that tables fit 160 columns


def as_table(boards: Sequence[Scoreboard], resamples: int) -> str:
    """Formats a block per gold file: a row per parser, a column per figure, F1 with its 95% interval.

    With several parsers, a second table gives the difference of their F1 to the first parser's.

    Args:
        boards: one per gold file, at least one.
        resamples: bootstrap samples that the intervals were computed from.
    """
    blocks = [_block(board) for board in boards]
    started = [
        f"{name} {seconds(one.answers.cold_start)} s"
        for name, one in zip(_names(boards[0]), boards[0].judged, strict=True)
        if one.answers.cold_start is not None
    ]
    if started:
        blocks.append(f"cold start: {', '.join(started)}")
    samples = f"{resamples:,} bootstrap samples of the captions"
    return "\n\n".join([*blocks, f"P / R: precision / recall; 95% intervals from {samples}"])


def _block(board: Scoreboard) -> str:
    names = _names(board)
    head = ("parser", "captions", *(f"{kind} F1" for kind in KINDS))
    head += ("objects P / R", "attributes P / R", "exact", "ungrounded", "captions/s")
    lines = [head, *(_row(*pair) for pair in zip(names, board.judged, strict=True))]
    block = f"{board.gold.name}: {board.about}\n\n{_grid(lines)}"
    unanswered = [
        f"{name} {one.unanswered:,}"
        for name, one in zip(names, board.judged, strict=True)
        if one.unanswered
    ]
    if unanswered:
        block += f"\nnot answered, and counted as captions without tags: {', '.join(unanswered)}"
    if len(names) > 1:
        lines = [(f"F1 less {names[0]}'s", *KINDS)]
        for place, name in list(enumerate(names))[1:]:
            lines.append((name, *(shown(board.gains[kind][place], "+") for kind in KINDS)))
        block += f"\n\n{_grid(lines)}"
    return block


def _row(name: str, judged: Judged) -> tuple[str, ...]:
    scores = judged.scores
    return (
        name,
        f"{len(judged.comparisons):,}",
        *(shown(scores.f1[kind]) for kind in KINDS),
        *(
            f"{_value(scores.precision[kind])} / {_value(scores.recall[kind])}"
            for kind in ("objects", "attributes")
        ),
        _value(scores.exact),
        _value(scores.ungrounded),
        rate(judged.answers.rate),
    )


def _names(board: Scoreboard) -> list[str]:
    """The parsers' names, truncated unless that makes two of them equal."""
    names = told_apart([one.answers.name for one in board.judged])
    cut = [name if len(name) <= _NAME else f"…{name[1 - _NAME :]}" for name in names]
    return cut if len(set(cut)) == len(set(names)) else names


def _grid(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_json(boards: Sequence[Scoreboard], resamples: int, seed: int) -> dict[str, Any]:
    """All figures as JSON; an undefined figure (precision without any tag) is null.

    Args:
        boards: one per gold file.
        resamples, seed: of the bootstrap.
    """
    return {
        "bootstrap": {"resamples": resamples, "seed": seed, "interval": 0.95},
        "golds": [
            {
                "name": board.gold.name,
                "path": board.gold.path,
                "captions": len(board.gold.captions),
                "tags": board.tags,
                "tags_with_a_word_that_the_caption_lacks": board.unreachable,
                "parsers": [_parser(board, place) for place in range(len(board.judged))],
            }
            for board in boards
        ],
    }


def _parser(board: Scoreboard, place: int) -> dict[str, Any]:
    one = board.judged[place]
    gains = {kind: board.gains[kind][place] for kind in KINDS}
    return {
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
        "f1_less_first": {kind: _plain(gain) for kind, gain in gains.items() if gain is not None},
    }


def shown(score: Score, sign: str = "") -> str:
    """`0.916 [0.905, 0.927]`, or a dash for NaN."""
    if math.isnan(score.value):
        return "-"
    return f"{score.value:{sign}.3f} [{score.low:{sign}.3f}, {score.high:{sign}.3f}]"


def rate(value: float | None) -> str:
    """Captions per second, rounded; a dash where it was not measured."""
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """Seconds to a tenth; a dash where they were not measured."""
    return "-" if value is None else f"{value:.1f}"


def _value(score: Score) -> str:
    return "-" if math.isnan(score.value) else f"{score.value:.3f}"


def _plain(score: Score) -> dict[str, float | None]:
    values = {"value": score.value, "low": score.low, "high": score.high}
    return {name: None if math.isnan(value) else value for name, value in values.items()}
