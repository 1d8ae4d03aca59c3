"""Intervals for means over seeds and for gains over a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from eval.confusion import ConfusionMatrix

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, in the figure's own unit.

    Attributes:
        value: the estimate.
        low, high: ends of the 95% interval; NaN with one seed.
    """

    value: float
    low: float
    high: float

    def shown(self, sign: str = "", digits: int = 1) -> str:
        """The figure and, where it has one, its interval; `sign` is a format's, `+` or nothing."""
        figures = [self.value] if np.isnan(self.low) else [self.value, self.low, self.high]
        value, *ends = (f"{figure:{sign}.{digits}f}" for figure in figures)
        return f"{value} [{', '.join(ends)}]" if ends else value

    @property
    def above_zero(self) -> bool:
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        return self.high < 0


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean over seeds with Student's interval.

    Args:
        values: one for each seed.
    """
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = stats.sem(array) * stats.t.ppf((1 + LEVEL) / 2, len(array) - 1)
    return Interval(mean, float(mean - half), float(mean + half))


def paired_interval(values: Sequence[float], others: Sequence[float]) -> Interval:
    """The mean difference with Student's interval, seed by seed.

    Args:
        values, others: figures of two settings for the same seeds, in the same order.

    Raises:
        ValueError: they are not of the same seeds.
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} seeds cannot be paired with {len(others)}")
    return mean_interval(np.subtract(values, others))


def gain_interval(baseline: np.ndarray, runs: np.ndarray, seed: int = 0) -> Interval:
    """How much higher runs' mIoU is than a baseline's, over images and seeds.

    Bootstrap: images and seeds are drawn with replacement, images the same for both sides. The confusion
    matrices of each draw are summed, and the mean mIoU of its seeds is compared with the baseline's.

    Args:
        baseline: counts of each image, integers of shape (N, C, C), rows the truth.
        runs: the same for each seed, (S, N, C, C).
        seed: of the draws.

    Returns:
        in percent.
    """
    rng = np.random.default_rng(seed)
    seeds, images = runs.shape[:2]
    flat = runs.reshape(seeds, images, -1).astype(np.float64)
    base = baseline.reshape(images, -1).astype(np.float64)

    def gain(weights: np.ndarray, chosen: np.ndarray) -> float:
        matrices = np.einsum("n,snc->sc", weights, flat[chosen])
        return float(np.mean([_miou(one) for one in matrices])) - _miou(weights @ base)

    value = gain(np.ones(images), np.arange(seeds))
    draws = [
        gain(
            np.bincount(rng.integers(images, size=images), minlength=images).astype(float),
            rng.integers(seeds, size=seeds),
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(100 * value, 100 * float(low), 100 * float(high))


def _miou(flat: np.ndarray) -> float:
    side = round(len(flat) ** 0.5)
    matrix = ConfusionMatrix(side)
    matrix.counts = flat.reshape(side, side)
    return matrix.miou
