"""Parsers judged by gold files: what each got right, and how much better it is than the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.parser_scores.answers import Answers, ask, read_tags
from eval.parser_scores.gold import GoldCaption, GoldFile, read_gold_files
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


@dataclass(frozen=True)
class Scoreboard:
    """One gold file, and the parsers that were judged by it.

    Attributes:
        gold: the file.
        tags: how many objects and attributes it has.
        unreachable: how many of those have a word that their caption lacks.
        judged: one per parser, at least one.
        gains: per kind of `KINDS` and parser, its F1 less the first parser's on the same draws;
            None for the first itself.
    """

    gold: GoldFile
    tags: int
    unreachable: int
    judged: tuple[Judged, ...]
    gains: dict[str, list[Score | None]]

    @classmethod
    def of(
        cls, gold: GoldFile, answers: Sequence[Answers], resamples: int = 1000, seed: int = 0
    ) -> Scoreboard:
        """Judges answers by the gold tags of the same captions.

        Args:
            gold: the file.
            answers: one per parser.
            resamples, seed: of the bootstrap, as in `score`.
        """
        comparer = Comparer()
        reach = [comparer.reach(item) for item in gold.captions]
        judged = [Judged.of(each, gold.captions, resamples, seed) for each in answers]
        first, *others = [one.comparisons for one in judged]
        gains = {
            kind: [None, *(f1_difference(first, one, kind, resamples, seed) for one in others)]
            for kind in KINDS
        }
        tags, unreachable = (sum(counts) for counts in zip(*reach, strict=True))
        return cls(gold, tags, unreachable, tuple(judged), gains)

    @property
    def about(self) -> str:
        """The file's size in one sentence without a full stop."""
        size = f"{len(self.gold.captions):,} captions, {self.tags:,} gold tags"
        if not self.unreachable:
            return f"{size}, all of them in their caption's words"
        lacking = "with a word that their caption lacks (out of a grounded parser's reach)"
        return f"{size}, {self.unreachable:,} of them {lacking}"


def judge(settings: Settings) -> list[Scoreboard]:
    """Asks or reads each parser once for all gold files, and compares its tags with theirs.

    Returns:
        one per gold file, in order; the parsers that were asked come before the folders.

    Raises:
        UserError: as `Settings.configs`, `read_gold`, `ask` and `read_tags`.
    """
    golds = read_gold_files(settings.gold, settings.limit)
    configs = settings.configs()
    read = [read_tags(url, golds) for url in settings.tags]  # before hours are spent on parsing
    answers = [ask(config, golds) for config in configs] + read
    return [
        Scoreboard.of(gold, own, settings.resamples, settings.seed)
        for gold, own in zip(golds, zip(*answers, strict=True), strict=True)
    ]
