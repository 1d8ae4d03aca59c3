"""The tables of `tag_checks.py` as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from workflows.intervals import mean_interval, paired_interval
from workflows.tag_check_world import Scores

NAMES = {
    "said": "all that captions say",
    "llm": "LLM",
    "nltk": "NLTK",
    "spacy": "spaCy",
    "tag2text": "Tag2Text",
}
Trained = tuple[str, list[float], list[float]]


def document(
    command: str,
    world: int,
    tables: Sequence[tuple[str, Scores, Scores]],
    trained: Sequence[Trained],
) -> str:
    """The Markdown.

    Args:
        command: that gives the same.
        world: its number.
        tables: parser, and its tags before and after the check.
        trained: see `CheckedWorld.trainings`.
    """
    parts = [
        f"Made on {date.today().isoformat()} by `{command}`; world {world}. Shares in percent, before and after.",
        tag_table(tables),
    ]
    if trained:
        parts.append(training_table(trained))
    return "\n\n".join(parts) + "\n"


def tag_table(tables: Sequence[tuple[str, Scores, Scores]]) -> str:
    """Precision, recall and F1 of objects and pairs, before and after."""
    rows = ["| tags | kind | precision | recall | F1 |", "|---|---|---|---|---|"]
    for parser, before, after in tables:
        for kind in ("objects", "pairs"):
            old, new = getattr(before, kind), getattr(after, kind)
            if not old.precision:  # Tag2Text has no attributes
                continue
            cells = [
                f"{100 * getattr(old, name):.1f} → {100 * getattr(new, name):.1f}"
                for name in ("precision", "recall", "f1")
            ]
            rows.append(f"| {NAMES[parser]} | {kind} | {' | '.join(cells)} |")
    return "\n".join(rows)


def training_table(trained: Sequence[Trained]) -> str:
    """mIoU and expressions with intervals over seeds, and verdicts against the first row."""
    rows = [
        "| trained on | mIoU | less the first | expressions | less the first |",
        "|---|---|---|---|---|",
    ]
    _, base, base_said = trained[0]
    for place, (name, miou, said) in enumerate(trained):
        less = ["", ""]
        if place:
            less = [
                paired_interval(miou, base).shown("+"),
                paired_interval(said, base_said).shown("+"),
            ]
        cells = (mean_interval(miou).shown(), less[0], mean_interval(said).shown(), less[1])
        rows.append(f"| {name} tags | {' | '.join(cells)} |")
    rows.append("")
    for name, miou, said in trained[1:]:
        for what, values, first in (("mIoU", miou, base), ("expressions", said, base_said)):
            gain = paired_interval(values, first)
            verdict = (
                "help"
                if gain.above_zero
                else "harm"
                if gain.below_zero
                else "make no clear difference for"
            )
            rows.append(f"- {name} tags {verdict} {what} ({gain.shown('+', 2)} points).")
    return "\n".join(rows)
