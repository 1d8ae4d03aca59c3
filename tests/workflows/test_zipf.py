"""Made-up words and their frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from workflows.zipf import Zipf, made_up_words


def test_words_are_all_different_and_follow_from_the_seed():
    words = ["".join(one) for one in made_up_words(50, "bcd", 3, seed=1)]
    assert len(set(words)) == 50
    assert all(len(word) == 6 for word in words)
    assert made_up_words(50, "bcd", 3, seed=1) == made_up_words(50, "bcd", 3, seed=1)
    assert made_up_words(50, "bcd", 3, seed=1) != made_up_words(50, "bcd", 3, seed=2)


def test_more_words_than_there_are_is_an_error():
    assert len(made_up_words(25, "b", 2, seed=0)) == 25
    with pytest.raises(ValueError, match="there are 25 words at most, not 26"):
        made_up_words(26, "b", 2, seed=0)


def test_the_frequency_of_a_rank_is_in_proportion_to_one_by_it():
    ranks = Zipf(10).draw(np.random.default_rng(0), 200_000)
    shares = np.bincount(ranks, minlength=10) / len(ranks)
    expected = 1 / np.arange(1, 11)
    assert shares == pytest.approx(expected / expected.sum(), abs=0.005)
