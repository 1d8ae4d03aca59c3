r"""From evidence to the probability that a picture shows a tag, without any gold.

The evidence z of a tag that a caption has is drawn from f1 where the picture shows the tag, and from f0 where
it does not. f0 is estimated on pictures whose captions lack the tag. With s_j the share of a tag's captions
whose picture shows it,

    P(shown | z, j) = s_j r(z) / (s_j r(z) + 1 - s_j),          r = f1 / f0
    f(z) / f0(z)    = s r(z) + 1 - s,                            over all tags, isotonic in z
    1 - s           = F(z0) / F0(z0),                            z0 the lowest twentieth of f0

r is one for all tags, as z is in units of each tag's own spread. The s_j are the fixed point of

    s_j = (A s + sum_i P(shown | z_ij, j)) / (A + number of i),  A = 20

(empirical Bayes; A keeps a rare tag near the share of all). z is counted in bins, so that memory does not
grow with the data. For attributes the same is done with d, and each pair is weighted by the probability of its
object: s_j is then the share of the pictures that show the attribute among those that show the object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

LOW, HIGH, BINS = -6.0, 12.0, 90
LOWEST = 0.05  # lowest share of f0, where no picture is taken to show the tag
AS_CAPTIONS = 20.0  # A
ROUNDS = 50
FEWEST = 200  # values of z, and of its null, below which nothing is judged


def bins_of(z: np.ndarray) -> np.ndarray:
    """The bin of each z, int64; NaN must have been taken out."""
    place = (np.asarray(z, np.float32) - LOW) * (BINS / (HIGH - LOW))
    return np.clip(place, 0, BINS - 1).astype(np.int64)


class Histograms:
    """Counts of z by tag, for the captions' own tags and for the null: float64 of shape (T, BINS) each."""

    def __init__(self, tags: int):
        self.own = np.zeros((tags, BINS))
        self.null = np.zeros((tags, BINS))

    def add(
        self, counts: np.ndarray, tags: np.ndarray, z: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Adds values to one of the two; NaN weights count in full."""
        judged = ~np.isnan(z)
        each = 1.0 if weights is None else np.nan_to_num(weights[judged], nan=1.0)
        np.add.at(counts, (tags[judged], bins_of(z[judged])), each)


@dataclass(frozen=True)
class Mixture:
    """The fitted model.

    Attributes:
        ratio: r by bin, float64 of shape (BINS,).
        share: s, of all tags.
        shares: s_j, float64 of shape (T,).
        table: P(shown | bin, tag), float32 of shape (T, BINS); NaN if there were too few values.
    """

    ratio: np.ndarray
    share: float
    shares: np.ndarray
    table: np.ndarray

    def probabilities(self, tags: np.ndarray, z: np.ndarray) -> np.ndarray:
        """P(shown) of values of z, float32; NaN where z is."""
        found = np.full(len(z), np.nan, np.float32)
        judged = ~np.isnan(z)
        found[judged] = self.table[tags[judged], bins_of(z[judged])]
        return found


def fit(histograms: Histograms) -> Mixture:
    """Fits r and the shares to the counts."""
    counts, nulls = histograms.own.sum(1), histograms.null.sum(1)  # (T,) each
    own = histograms.own.sum(0)  # (BINS,)
    # Each tag has the same weight in both; otherwise the two would differ by their tags alone.
    null = (counts / np.maximum(nulls, 1)) @ histograms.null  # (BINS,)
    tags = len(histograms.own)
    if min(own.sum(), nulls.sum(), null.sum()) < FEWEST:
        nothing = np.full((tags, BINS), np.nan, np.float32)
        return Mixture(np.ones(BINS), 1.0, np.ones(tags), nothing)
    f, f0 = own / own.sum(), null / null.sum()
    seen = own + null > 0
    # The odds of own against null, as a share that isotonic regression weighs by its counts.
    part = np.where(seen, f / np.maximum(f + f0, 1e-12), 0.5)
    rising = isotonic_regression(part[seen], weights=(own + null)[seen].astype(float)).x
    part = np.interp(np.arange(BINS), np.flatnonzero(seen), rising)
    odds = part / np.maximum(1 - part, 1e-4)  # f / f0
    low = np.searchsorted(np.cumsum(f0), LOWEST) + 1
    absent = float(np.clip(f[:low].sum() / f0[:low].sum(), 0, 1))
    share = max(1 - absent, 1e-3)
    ratio = np.maximum(odds - absent, 0) / share
    shares = np.full(tags, share)
    for _ in range(ROUNDS):
        table = _posterior(shares, ratio)
        found = (histograms.own * table).sum(1)
        shares = (AS_CAPTIONS * share + found) / (AS_CAPTIONS + counts)
    return Mixture(ratio, share, shares, _posterior(shares, ratio).astype(np.float32))


def _posterior(shares: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    shown = shares[:, None] * ratio
    return shown / np.maximum(shown + 1 - shares[:, None], 1e-12)
