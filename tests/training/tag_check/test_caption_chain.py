from __future__ import annotations

import itertools

import numpy as np
import pytest

from training.tag_check.caption_chain import UNSAID, CaptionChain, Steps
from training.tag_check.decision import BINS, Mixture, bins_of

FIRST = np.array([0.1, 0.9])
FOLLOW = np.array([[0.7, 0.3], [0.2, 0.8]])


def captions(n: int, gap: float, together: bool, seed: int = 0) -> tuple[Steps, np.ndarray]:
    """Captions of one to five tags whose states follow FIRST and FOLLOW, or are drawn each by itself."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, n)
    states = []
    for length in counts:
        state = int(rng.random() < FIRST[1])
        for t in range(length):
            if t:
                state = int(rng.random() < (FOLLOW[state, 1] if together else 0.75))
            states.append(state)
    shown = np.array(states, bool)
    z = rng.normal(np.where(shown, gap, 0.0))
    likely = np.exp(gap * z - gap**2 / 2)  # of two normal distributions
    return Steps(np.arange(len(z)), likely, counts), shown


def test_probabilities_are_those_of_all_states_of_a_caption():
    likely = np.array([0.3, 4.0, 0.1, 2.0])
    chain = CaptionChain(FIRST, FOLLOW)
    found = chain.probabilities(Steps(np.arange(4), likely, np.array([0, 3, 1])))
    weights = np.zeros(3)
    total = 0.0
    for states in itertools.product((0, 1), repeat=3):
        weight = FIRST[states[0]]
        for t, state in enumerate(states):
            weight *= (likely[t] if state else 1) * (FOLLOW[states[t - 1], state] if t else 1)
        total += weight
        weights += weight * np.array(states)
    np.testing.assert_allclose(found[:3], weights / total)
    assert found[3] == pytest.approx(0.9 * 2 / (0.9 * 2 + 0.1))


def test_how_tags_follow_each_other_is_learned_without_gold():
    steps, _ = captions(20_000, gap=2.5, together=True)
    chain = CaptionChain.learn([steps], share=0.7)
    np.testing.assert_allclose(chain.follow, FOLLOW, atol=0.05)
    np.testing.assert_allclose(chain.first, FIRST, atol=0.03)


def test_tags_that_know_nothing_of_each_other_are_judged_each_by_itself():
    steps, _ = captions(20_000, gap=2.5, together=False)
    chain = CaptionChain.learn([steps], share=0.75)
    np.testing.assert_allclose(chain.follow, [[0.25, 0.75], [0.25, 0.75]], atol=0.04)


def test_a_doubtful_tag_between_absent_ones_is_less_probable_than_between_shown_ones():
    chain = CaptionChain(FIRST, FOLLOW)
    likely = np.array([1e-3, 1.0, 1e-3, 1e3, 1.0, 1e3])
    found = chain.probabilities(Steps(np.arange(6), likely, np.array([3, 3])))
    assert found[1] < 0.3
    assert found[4] > 0.85


def test_parts_teach_as_one():
    whole, _ = captions(3000, gap=2.0, together=True)
    cut = int(whole.counts[:1000].sum())
    parts = [
        Steps(whole.entries[:cut], whole.likely[:cut], whole.counts[:1000]),
        Steps(whole.entries[cut:] - cut, whole.likely[cut:], whole.counts[1000:]),
    ]
    one, other = CaptionChain.learn([whole], 0.75), CaptionChain.learn(parts, 0.75)
    np.testing.assert_allclose(one.follow, other.follow, atol=1e-6)


def test_steps_stand_in_the_order_of_their_mention_without_those_not_judged():
    ratio = np.ones((3, BINS), np.float32)
    ratio[:, bins_of(np.array([2.0]))] = 8
    mixture = Mixture(0.5, np.array([0.5, 0.8, 0.5]), ratio)
    tags = np.array([0, 1, 2, 1, 2])
    z = np.array([2.0, 0.0, np.nan, 2.0, 0.0], np.float16)
    places = np.array([5, 2, 0, UNSAID, 1])
    steps = Steps.of(mixture, tags, z, places, np.array([3, 0, 2]))
    assert steps.entries.tolist() == [1, 0, 4, 3]
    assert steps.counts.tolist() == [2, 0, 2]
    np.testing.assert_allclose(steps.likely, [4, 8, 1, 32])  # a tag with 4 times the odds of all


def test_captions_without_a_judged_tag_are_no_steps():
    nothing = Mixture(1.0, np.ones(1), np.full((1, BINS), np.nan, np.float32))
    steps = Steps.of(nothing, np.zeros(2, int), np.zeros(2), np.zeros(2, int), np.array([1, 1]))
    assert not len(steps.entries)
    assert not len(CaptionChain.learn([steps], 1.0).probabilities(steps))
