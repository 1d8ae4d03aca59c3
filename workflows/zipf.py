"""Made-up words that occur by Zipf's law: for generated captions and tags of any number."""

from __future__ import annotations

import numpy as np

_VOWELS = "aeiou"


def made_up_words(count: int, consonants: str, syllables: int, seed: int) -> list[list[str]]:
    """Different words, each as its syllables.

    Args:
        count: words.
        consonants: each with each vowel makes a syllable.
        syllables: of a word.
        seed: of their order.

    Raises:
        ValueError: there are not that many words.
    """
    known = [consonant + vowel for consonant in consonants for vowel in _VOWELS]
    total = len(known) ** syllables
    if count > total:
        raise ValueError(f"there are {total:,} words at most, not {count:,}")
    numbers = np.random.default_rng(seed).permutation(total)[:count].tolist()
    powers = [len(known) ** place for place in reversed(range(syllables))]
    return [[known[number // power % len(known)] for power in powers] for number in numbers]


class Zipf:
    """Draws ranks, of which rank r comes with a probability in proportion to 1 / r.

    Args:
        distinct: how many ranks there are.
    """

    def __init__(self, distinct: int):
        weights = 1 / np.arange(1, distinct + 1)
        self._cdf = np.cumsum(weights / weights.sum())

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Ranks from 0, int64 of shape (count,)."""
        return np.searchsorted(self._cdf, rng.random(count)).clip(0, len(self._cdf) - 1)
