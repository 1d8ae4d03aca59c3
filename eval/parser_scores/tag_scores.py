"""How well tags agree with gold tags: micro precision, recall and F1, with bootstrap intervals.

FACTUAL is scored as its users do: both sides in lower case and singular, number words as digits,
and every tag once per caption. What the gold calls arguable counts neither for nor against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import simplemma

from eval.parser_scores.gold import GoldCaption
from parsing.normalise import Normaliser, default
from parsing.tags import Parsed
from parsing.words import made_of, solid

KINDS = ("objects", "attributes", "pairs")
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
NUMBERS = {word: str(number) for number, word in enumerate(_WORDS)}


@dataclass(frozen=True)
class Comparison:
    """What one parser got right, wrong and missed in one caption, in the form that is compared.

    Attributes:
        right, wrong, missed: per kind of `KINDS`, sorted tags; a pair is (attribute, object).
        arguable: tags that the parser gave and that count neither for nor against it, likewise.
        tags: how many objects and attributes the parser gave, arguable ones among them.
        ungrounded: how many of those use a word that the caption doesn't.
    """

    right: dict[str, list]
    wrong: dict[str, list]
    missed: dict[str, list]
    arguable: dict[str, list]
    tags: int
    ungrounded: int

    @property
    def exact(self) -> bool:
        """Whether objects and pairs are the gold's, no more (but what is arguable) and no less."""
        return not any(self.wrong[kind] or self.missed[kind] for kind in ("objects", "pairs"))


@dataclass(frozen=True)
class Score:
    """One figure between 0 and 1 with its 95% interval over resampled captions.

    A figure whose denominator is nothing (precision of a parser without tags) is NaN.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """All figures of one parser: `precision`, `recall` and `f1` per kind, and two rates."""

    precision: dict[str, Score]
    recall: dict[str, Score]
    f1: dict[str, Score]
    exact: Score
    ungrounded: Score


class Comparer:
    """Brings gold and parser's tags to the form in which they are compared, and compares."""

    def __init__(self, normaliser: Normaliser | None = None):
        self.normaliser = default() if normaliser is None else normaliser

    def form(self, tag: str) -> str:
        """Lower case, the last word singular, number words as digits; nothing is left out."""
        words = tag.lower().split()
        if words:
            words[-1] = self.normaliser.singular(words[-1])
        return " ".join(NUMBERS.get(word, word) for word in words)

    def compare(self, gold: GoldCaption, parsed: Parsed) -> Comparison:
        """Compares one caption's tags; a caption that wasn't parsed has no tags.

        Arguable is an object of `gold.maybe`, an attribute of `gold.maybe_attributes` whatever
        the object, a pair of `gold.maybe_attributes`, and a pair whose object is arguable; never
        what `gold` has among its tags too.
        """
        wanted = self._tags(gold.objects, gold.attributes)
        given = self._tags(parsed.objects, parsed.attributes)
        maybe = self._tags(gold.maybe, gold.maybe_attributes)
        things = maybe["objects"] - wanted["objects"]
        maybe["pairs"] |= {pair for pair in given["pairs"] if pair[1] in things}
        extra = {kind: given[kind] - wanted[kind] for kind in KINDS}
        grounded = self._grounds(gold.caption)
        tags = [*given["objects"], *given["attributes"]]
        return Comparison(
            right={kind: sorted(given[kind] & wanted[kind]) for kind in KINDS},
            wrong={kind: sorted(extra[kind] - maybe[kind]) for kind in KINDS},
            missed={kind: sorted(wanted[kind] - given[kind]) for kind in KINDS},
            arguable={kind: sorted(extra[kind] & maybe[kind]) for kind in KINDS},
            tags=len(tags),
            ungrounded=sum(not grounded(tag) for tag in tags),
        )

    def reach(self, gold: GoldCaption) -> tuple[int, int]:
        """How many objects and attributes (words, without their objects) the gold has.

        Returns:
            (all of them, those with a word that the caption lacks). The latter are out of reach
            for a parser that says nothing but what the caption says.
        """
        wanted = self._tags(gold.objects, gold.attributes)
        grounded = self._grounds(gold.caption)
        tags = [*wanted["objects"], *wanted["attributes"]]
        return len(tags), sum(not grounded(tag) for tag in tags)

    def _tags(self, objects: Iterable[str], attributes: Iterable[tuple[str, str]]) -> dict:
        pairs = {(self.form(a), self.form(o)) for a, o in attributes}
        return {
            "objects": {self.form(tag) for tag in objects},
            "attributes": {attribute for attribute, _ in pairs},
            "pairs": pairs,
        }

    def _grounds(self, caption: str) -> Callable[[str], bool]:
        """A predicate: does the caption say every word of a tag, in whatever form?"""
        words = self.normaliser.words(caption)
        said: set[str] = set()
        for word in (*words, *map("".join, pairwise(words))):  # `wet suit` for `wetsuit`
            for part in filter(None, (word, *word.split("-"))):  # `-free` begins with one
                lemma = simplemma.lemmatize(part, lang="en").lower()
                forms = (part, lemma, self.form(part), self.normaliser.attribute(part) or part)
                said.update(solid([form]) for form in forms)

        return lambda tag: made_of(tag.split(), said)


def score(comparisons: Sequence[Comparison], resamples: int = 1000, seed: int = 0) -> Scores:
    """Micro scores over captions, with percentile bootstrap intervals.

    Args:
        comparisons: one per caption.
        resamples: bootstrap draws of as many captions; with the same number of captions and the
            same seed the draws are the same, so that two parsers can be compared draw by draw.
        seed: of the draws.
    """
    drawn = _draw(comparisons, resamples, seed)
    return Scores(
        precision={kind: _summed(drawn[kind]["precision"]) for kind in KINDS},
        recall={kind: _summed(drawn[kind]["recall"]) for kind in KINDS},
        f1={kind: _summed(drawn[kind]["f1"]) for kind in KINDS},
        exact=_summed(drawn["exact"]),
        ungrounded=_summed(drawn["ungrounded"]),
    )


def f1_difference(
    first: Sequence[Comparison],
    second: Sequence[Comparison],
    kind: str,
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """F1 of `second` less F1 of `first` over the same captions: a paired bootstrap.

    An interval that holds 0 says that these captions can't tell the two apart.
    """
    one, two = (_draw(side, resamples, seed)[kind]["f1"] for side in (first, second))
    return _summed(two - one)


def _draw(comparisons: Sequence[Comparison], resamples: int, seed: int) -> dict:
    """Every figure on all captions (position 0) and on each of the draws (float64[1 + draws])."""
    counts = np.array([_counts(c) for c in comparisons], dtype=np.float64)  # (captions, 12)
    rng, size = np.random.default_rng(seed), len(comparisons)
    sums = [counts.sum(axis=0)]
    for _ in range(resamples):
        sums.append(np.bincount(rng.integers(size, size=size), minlength=size) @ counts)
    totals = np.stack(sums)  # (1 + draws, 12)
    drawn: dict = {}
    for place, kind in enumerate(KINDS):
        right, given, wanted = totals[:, 3 * place : 3 * place + 3].T
        drawn[kind] = {
            "precision": _ratio(right, given),
            "recall": _ratio(right, wanted),
            "f1": _ratio(2 * right, given + wanted),
        }
    drawn["exact"] = totals[:, 9] / size
    drawn["ungrounded"] = _ratio(totals[:, 10], totals[:, 11])
    return drawn


def _counts(comparison: Comparison) -> list[int]:
    row = []
    for kind in KINDS:
        right = len(comparison.right[kind])
        row += [right, right + len(comparison.wrong[kind]), right + len(comparison.missed[kind])]
    return [*row, comparison.exact, comparison.ungrounded, comparison.tags]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _summed(draws: np.ndarray) -> Score:
    known = draws[1:][~np.isnan(draws[1:])]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (np.nan, np.nan)
    return Score(float(draws[0]), float(low), float(high))
