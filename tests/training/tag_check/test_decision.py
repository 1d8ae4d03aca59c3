from __future__ import annotations

import numpy as np
import pytest

from training.tag_check.decision import BINS, FEWEST, Histograms, bins_of, fit, posterior

TAGS = 6


def filled(shares: list[float], n: int = 4000, gap: float = 3.0) -> tuple[Histograms, dict]:
    """Captions' tags that a share of the pictures show: z around `gap` there and around 0 elsewhere."""
    rng = np.random.default_rng(0)
    histograms = Histograms(len(shares))
    truth = {}
    for tag, share in enumerate(shares):
        shown = rng.random(n) < share
        z = rng.normal(np.where(shown, gap, 0.0))
        histograms.add(histograms.own, np.full(n, tag), z)
        histograms.add(histograms.null, np.full(n, tag), rng.normal(size=n))
        truth[tag] = (z, shown)
    return histograms, truth


def test_probabilities_are_calibrated_without_gold():
    histograms, truth = filled([0.8] * TAGS)
    mixture = fit(histograms)
    assert mixture.share == pytest.approx(0.8, abs=0.03)
    z, shown = truth[0]
    found = mixture.probabilities(np.zeros(len(z), np.int64), z)
    for low, high in ((0.0, 0.2), (0.4, 0.6), (0.8, 1.01)):
        inside = (found >= low) & (found < high)
        assert shown[inside].mean() == pytest.approx(found[inside].mean(), abs=0.15)
    assert (shown[found >= 0.5]).mean() > 0.95
    assert (found[shown] >= 0.5).mean() > 0.95


def test_each_tag_has_its_own_share():
    shares = [0.1, 0.9, 0.5, 0.5, 0.7, 0.3]
    mixture = fit(filled(shares)[0])
    np.testing.assert_allclose(mixture.shares, shares, atol=0.06)


def test_a_tag_of_few_captions_stays_near_what_tags_are_like():
    histograms, _ = filled([0.8] * TAGS)
    histograms.own[0] = 0
    histograms.own[0, bins_of(np.array([1.4]))] = 3
    mixture = fit(histograms)
    assert 0.6 < mixture.shares[0] < mixture.share


def test_a_tag_that_no_picture_shows_is_told_from_the_others():
    shares = [0.0, 0.0, 0.8, 0.8, 0.8, 1.0]
    mixture = fit(filled(shares, n=400)[0])
    assert mixture.shares[:2].max() < 0.05
    assert mixture.shares[5] > 0.9
    np.testing.assert_allclose(mixture.shares[2:5], 0.8, atol=0.12)


def test_a_tag_that_stands_out_less_is_judged_by_its_own_gap():
    histograms, _ = filled([0.8] * (TAGS - 1))
    frequent, truth = filled([0.8], gap=1.8)
    wide = Histograms(TAGS)
    for name in ("own", "null"):
        getattr(wide, name)[:] = np.concatenate(
            [getattr(histograms, name), getattr(frequent, name)]
        )
    mixture = fit(wide)
    assert mixture.shares[-1] == pytest.approx(0.8, abs=0.06)
    z, shown = truth[0]
    found = mixture.probabilities(np.full(len(z), TAGS - 1), z)
    assert found.mean() == pytest.approx(shown.mean(), abs=0.07)
    wrong = (found > 0.5) != shown
    assert wrong.mean() < 0.16  # the true densities and share allow 0.128


def test_the_probability_never_falls_as_the_evidence_rises():
    mixture = fit(filled([0.8] * TAGS)[0])
    table = posterior(mixture.shares[:, None], mixture.ratio)
    assert (np.diff(table, axis=1) >= -1e-6).all()
    assert ((table >= 0) & (table <= 1)).all()


def test_tags_that_fit_their_pictures_no_better_than_others_are_taken_for_absent():
    histograms, truth = filled([0.5] * TAGS, gap=0.0)
    mixture = fit(histograms)
    z, _ = truth[0]
    found = mixture.probabilities(np.zeros(len(z), np.int64), z)
    assert found.mean() < 0.25


def test_a_weight_counts_as_so_many_values():
    one, other = Histograms(1), Histograms(1)
    tags, z = np.zeros(4, np.int64), np.array([0.0, 1.0, 1.0, np.nan])
    one.add(one.own, tags, z, np.array([0.5, 1.0, np.nan, 1.0]))
    other.add(other.own, tags[:1], z[:1])
    other.own *= 0.5
    other.add(other.own, tags[:2], z[1:3])
    np.testing.assert_array_equal(one.own, other.own)


def test_too_few_values_and_missing_ones_are_not_judged():
    histograms = Histograms(TAGS)
    few = np.zeros(FEWEST - 1, np.int64)
    for counts in (histograms.own, histograms.null):
        histograms.add(counts, few, few.astype(float))
    assert np.isnan(fit(histograms).ratio).all()
    mixture = fit(filled([0.8])[0])
    assert np.isnan(mixture.probabilities(np.array([0]), np.array([np.nan])))[0]


def test_values_outside_the_bins_count_in_the_last():
    assert bins_of(np.array([-99.0, 99.0])).tolist() == [0, BINS - 1]
