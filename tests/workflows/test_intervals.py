import numpy as np
import pytest

from eval.confusion import ConfusionMatrix
from workflows.intervals import gain_interval, mean_interval, paired_interval


def counts_of(right: np.ndarray, classes: int = 3, pixels: int = 40) -> np.ndarray:
    """Confusion matrices of images in which each class is found with a given share."""
    rng = np.random.default_rng(0)
    counts = []
    for share in right:
        matrix = ConfusionMatrix(classes)
        truth = rng.integers(classes, size=pixels)
        guess = np.where(rng.random(pixels) < share, truth, rng.integers(classes, size=pixels))
        counts.append(matrix.add(truth, guess))
    return np.stack(counts)


def test_a_mean_has_students_interval():
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.value == 3
    half = 2.7764451 * np.sqrt(2.5 / 5)  # t with 4 degrees of freedom at 97.5%
    assert found.low == pytest.approx(3 - half)
    assert found.high == pytest.approx(3 + half)


def test_a_single_seed_has_no_interval():
    found = mean_interval([4.0])
    assert found.value == 4
    assert np.isnan(found.low)
    assert not found.above_zero
    assert not found.below_zero


def test_pairing_by_seed_takes_out_what_the_seeds_share():
    seeds = np.array([10.0, 30.0, 50.0, 20.0])
    better = seeds + np.array([1.0, 1.1, 0.9, 1.0])
    assert paired_interval(better, seeds).above_zero
    assert paired_interval(seeds, better).below_zero
    assert not mean_interval(better).low > mean_interval(seeds).high


def test_figures_of_other_seeds_cannot_be_paired():
    with pytest.raises(ValueError, match="3 seeds cannot be paired with 2"):
        paired_interval([1, 2, 3], [1, 2])


def test_a_gain_is_the_difference_of_mious_and_its_interval_holds_it():
    base = counts_of(np.full(60, 0.4))
    runs = np.stack([counts_of(np.full(60, share)) for share in (0.7, 0.75, 0.8)])

    def miou(counts: np.ndarray) -> float:
        matrix = ConfusionMatrix(3)
        matrix.counts += counts.sum(0)
        return matrix.miou

    found = gain_interval(base, runs)
    assert found.value == pytest.approx(100 * (np.mean([miou(run) for run in runs]) - miou(base)))
    assert 0 < found.low < found.value < found.high


def test_the_same_model_has_no_gain():
    base = counts_of(np.full(40, 0.5))
    found = gain_interval(base, base[None])
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_model_as_good_as_the_baseline_cannot_be_told_apart():
    rng = np.random.default_rng(3)
    base, other = counts_of(rng.random(50)), counts_of(rng.random(50))
    found = gain_interval(base, other[None])
    assert found.low < 0 < found.high


def test_a_class_that_no_draw_shows_is_left_out_as_in_the_evaluator():
    base = np.zeros((5, 3, 3), np.int64)
    base[:, 0, 0] = 10
    base[0, 2, 0] = 3  # a class in one image alone: most draws lack it
    found = gain_interval(base, base[None])
    assert np.isfinite([found.value, found.low, found.high]).all()
