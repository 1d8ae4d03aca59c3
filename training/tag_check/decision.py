r"""From the evidence of one tag to the probability that a picture shows it, without any gold.

The evidence z of a tag j that a caption has is drawn from f1 where the picture shows the tag, and from f0
where it does not. f0 is estimated on pictures whose captions lack the tag. With s_j the share of a tag's
captions whose picture shows it,

    P(shown | z, j) = s_j r(y) / (s_j r(y) + 1 - s_j),          r = f1 / f0, isotonic in y
    y               = g_j / g (z - m_j - g_j / 2) + g / 2

m_j is the mean of f0, g_j how far the mean of f1 lies above it, and g the g_j of all tags together: y is the
log of the likelihood ratio of two normal distributions with those means and one spread, in units in which the
usual tag keeps its z. So one r serves all tags, the frequent ones, which stand out less, and the rare ones.
r, s_j and g_j are found in turn (`TURNS`):

    f(y) / f0(y) = s r(y) + 1 - s                               over all tags, s the mean of the s_j
    s_j          = E(s | the z of j's captions),                s ~ G, G on `SHARES` by EM over the tags
    m_j + g_j    = (A (m_j + g) + sum_i P_ij z_ij) / (A + sum_i P_ij),     A = 20, P_ij = P(shown | z_ij, j)

At first g_j = g and 1 - s = F(y0) / F0(y0), y0 the lowest twentieth of f0. G is the nonparametric maximum-
likelihood prior: it finds by itself that some tags (`sale`) are in no picture and others (`sky`) nearly always,
and keeps a rare tag near what tags are like. z is counted in bins, so that memory does not grow with the data.

For attributes the same is done with d, and each pair is weighted by the probability of its object: s_j is then
the share of the pictures that show the attribute among those that show the object. How the tags of one caption
bear on each other is in `caption_chain.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

LOW, HIGH, BINS = -6.0, 12.0, 90
CENTRES = LOW + (np.arange(BINS) + 0.5) * (HIGH - LOW) / BINS
LOWEST = 0.05  # lowest share of f0, where no picture is taken to show the tag
SHARES = np.array([0.005, 0.02, *np.arange(0.05, 0.96, 0.05), 0.98, 0.995])
AS_CAPTIONS = 20.0  # A
TURNS = 4
SHOWN = 0.3  # r is learned from tags with at least this s_j
LEAST_GAP = 0.5  # of g
MOST = 1e3  # of r and of 1 / r
FEWEST = 200  # values of z, and of its null, below which nothing is judged
_EM = 100


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
        share: s, of all tags.
        shares: s_j, float64 of shape (T,).
        ratio: r by tag and bin of z, float32 of shape (T, BINS); NaN if there were too few values.
    """

    share: float
    shares: np.ndarray
    ratio: np.ndarray

    def ratios(self, tags: np.ndarray, z: np.ndarray) -> np.ndarray:
        """r of values of z, float32; NaN where z is."""
        found = np.full(len(z), np.nan, np.float32)
        judged = ~np.isnan(z)
        found[judged] = self.ratio[tags[judged], bins_of(z[judged])]
        return found

    def probabilities(self, tags: np.ndarray, z: np.ndarray) -> np.ndarray:
        """P(shown) of values of z, each by itself, float32; NaN where z is."""
        return posterior(self.shares[tags], self.ratios(tags, z)).astype(np.float32)


def posterior(shares: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """s r / (s r + 1 - s)."""
    shown = shares * ratio
    return shown / np.maximum(shown + 1 - shares, 1e-12)


def fit(histograms: Histograms) -> Mixture:
    """Fits r, the shares and the gaps to the counts."""
    own, null = histograms.own, histograms.null
    counts, nulls = own.sum(1), null.sum(1)  # (T,) each
    # Each tag has the same weight in both; otherwise the two would differ by their tags alone.
    weights = counts / np.maximum(nulls, 1)
    if min(counts.sum(), nulls.sum(), weights @ nulls) < FEWEST:
        nothing = np.full(own.shape, np.nan, np.float32)
        return Mixture(1.0, np.ones(len(own)), nothing)
    middle = (weights @ null) @ CENTRES / (weights @ nulls)
    means = (AS_CAPTIONS * middle + null @ CENTRES) / (AS_CAPTIONS + nulls)  # m_j
    y = np.tile(CENTRES, (len(own), 1))  # of the bins of z, (T, BINS)
    share, shares = None, np.ones(len(own))
    for turn in range(TURNS):
        teach = shares >= SHOWN
        if not counts[teach].any():
            teach[:] = True
        f, f0 = _moved(own[teach], y[teach]), _moved(null[teach], y[teach])
        if share is not None:
            share = (counts * shares)[teach].sum() / counts[teach].sum()
        ratio = _ratio(f.sum(0), weights[teach] @ f0, share)[bins_of(y)]  # (T, BINS)
        shares = _shares(own, ratio)
        share = float((counts * shares).sum() / counts.sum())
        if turn + 1 < TURNS:
            shown = own * posterior(shares[:, None], ratio)
            if not shown.sum():
                break
            gap = shown.sum(0) @ CENTRES / shown.sum() - middle  # g
            if gap <= 0:
                break
            above = (AS_CAPTIONS * (means + gap) + shown @ CENTRES) / (AS_CAPTIONS + shown.sum(1))
            gaps = np.maximum(above - means, LEAST_GAP * gap)[:, None]  # g_j
            y = gaps / gap * (CENTRES - means[:, None] - gaps / 2) + gap / 2
    return Mixture(share, shares, ratio.astype(np.float32))


def _moved(counts: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Counts of z as counts of y."""
    moved = np.zeros_like(counts)
    np.add.at(moved, (np.arange(len(counts))[:, None], bins_of(y)), counts)
    return moved


def _ratio(own: np.ndarray, null: np.ndarray, share: float | None) -> np.ndarray:
    """r by bin, from counts of all tags; where the share is not known, it is estimated."""
    f, f0 = own / own.sum(), null / null.sum()
    seen = own + null > 0
    # The odds of own against null, as a share that isotonic regression weighs by its counts.
    part = np.where(seen, f / np.maximum(f + f0, 1e-12), 0.5)
    rising = isotonic_regression(part[seen], weights=(f + f0)[seen]).x
    part = np.interp(np.arange(BINS), np.flatnonzero(seen), rising)
    odds = part / np.maximum(1 - part, 1e-4)  # f / f0
    if share is None:
        low = np.searchsorted(np.cumsum(f0), LOWEST) + 1
        share = 1 - float(np.clip(f[:low].sum() / f0[:low].sum(), 0, 1))
    share = max(share, 1e-3)
    return np.clip((odds - (1 - share)) / share, 1 / MOST, MOST)


def _shares(own: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """s_j, shape (T,): posterior means under the prior G that makes all z the most likely."""
    likely = np.stack([(own * np.log(s * ratio + 1 - s)).sum(1) for s in SHARES], 1)  # (T, shares)
    likely = np.exp(likely - likely.max(1, keepdims=True))
    used = own.sum(1) > 0
    prior = np.full(len(SHARES), 1 / len(SHARES))
    for _ in range(_EM):
        each = likely * prior
        each /= each.sum(1, keepdims=True)
        prior = (each[used].sum(0) + 1 / len(SHARES)) / (used.sum() + 1)
    return each @ SHARES
