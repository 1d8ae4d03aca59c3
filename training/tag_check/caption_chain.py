r"""What the tags of one caption say of each other: a chain along the caption.

Captions name things that their pictures do not show together (`free hat and cup with every order`). So the
tags of a caption, in the order of their first mention, are the steps of a hidden Markov model with the two
states shown (1) and absent (0):

    P(x_1 ... x_n | z) ~ P(x_1) prod_t P(x_t+1 | x_t) prod_t l_t(x_t)
    l_t(1) = r(y_t) s_j / (1 - s_j) (1 - s) / s,       l_t(0) = 1          j the tag of step t

l_t is the likelihood ratio of the tag's evidence and of the tag itself, P(j | shown) / P(j | absent), with r,
s_j and s of `decision.py`. P(x_1) and P(x_t+1 | x_t) are learned by EM (Baum-Welch) from captions without any
gold; where neighbours know nothing of each other, the chain falls apart into the single tags. A tag's
probability is P(x_t = 1 | all z of the caption).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.tag_check.decision import Mixture

ROUNDS = 50
SLOW = 1e-4  # change of the probabilities of a step below which learning ends
UNSAID = np.iinfo(np.int16).max  # place of a tag whose words the caption lacks


@dataclass(frozen=True)
class Steps:
    """The judged objects of R captions, n in all, caption by caption in the order of their mention.

    Attributes:
        entries: their positions among the tags of the part, int64 of shape (n,).
        likely: l(1), float64 of shape (n,).
        counts: number of each caption's steps, int64 of shape (R,).
    """

    entries: np.ndarray
    likely: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(
        cls,
        mixture: Mixture,
        tags: np.ndarray,
        z: np.ndarray,
        places: np.ndarray,
        counts: np.ndarray,
    ) -> Steps:
        """The steps of a part.

        Args:
            mixture: of the objects.
            tags, z, places: of the part's tags, shape (E,); z is NaN where a tag was not judged.
            counts: number of tags of each caption, shape (R,).
        """
        ratio = mixture.ratios(tags, z)
        row = np.repeat(np.arange(len(counts)), counts)
        order = np.lexsort((places, row))
        entries = order[~np.isnan(ratio[order])]
        odds = mixture.shares / (1 - mixture.shares)
        usual = mixture.share / max(1 - mixture.share, 1e-3)
        likely = ratio[entries].astype(np.float64) * odds[tags[entries]] / max(usual, 1e-3)
        return cls(entries, likely, np.bincount(row[entries], minlength=len(counts)))


@dataclass(frozen=True)
class CaptionChain:
    """The learned model.

    Attributes:
        first: P(x_1) of absent and shown, float64 of shape (2,).
        follow: P(x_t+1 | x_t), float64 of shape (2, 2).
    """

    first: np.ndarray
    follow: np.ndarray

    def probabilities(self, steps: Steps) -> np.ndarray:
        """P(shown) of each step, float64 of shape (n,)."""
        found = np.empty(len(steps.likely))
        for at, likely in _by_length(steps):
            found[at] = self._smooth(likely)[0][..., 1]
        return found

    @classmethod
    def learn(cls, steps: list[Steps], share: float) -> CaptionChain:
        """Learns from captions; tags know nothing of each other at first.

        Args:
            steps: of some parts.
            share: s.
        """
        start = np.clip([1 - share, share], 1e-3, 1)
        chain = cls(start, np.stack([start, start]))
        groups = [likely for one in steps for _, likely in _by_length(one)]
        for _ in range(ROUNDS):
            first, follow = start * 1e-3, np.full((2, 2), 1e-3)
            for likely in groups:
                states, pairs = chain._smooth(likely)
                first = first + states[:, 0].sum(0)
                follow = follow + pairs
            before = chain
            chain = cls(first / first.sum(), follow / follow.sum(1, keepdims=True))
            if np.abs(chain.follow - before.follow).max() < SLOW:
                break
        return chain

    def _smooth(self, likely: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Forward and backward through captions of one length.

        Args:
            likely: l(1), shape (n, length).

        Returns:
            P(x_t) of shape (n, length, 2), and the sum of P(x_t, x_t+1) over all, shape (2, 2).
        """
        each = np.stack([np.ones_like(likely), likely], 2)  # (n, length, 2)
        ahead, back = np.empty_like(each), np.ones_like(each)
        length = likely.shape[1]
        for t in range(length):
            prior = self.first if t == 0 else ahead[:, t - 1] @ self.follow
            ahead[:, t] = prior * each[:, t]
            ahead[:, t] /= ahead[:, t].sum(1, keepdims=True)
        pairs = np.zeros((2, 2))
        for t in range(length - 2, -1, -1):
            later = each[:, t + 1] * back[:, t + 1]  # (n, 2)
            back[:, t] = later @ self.follow.T
            back[:, t] /= back[:, t].sum(1, keepdims=True)
            both = ahead[:, t, :, None] * self.follow * later[:, None]  # (n, 2, 2)
            pairs += (both / both.sum((1, 2), keepdims=True)).sum(0)
        states = ahead * back
        return states / states.sum(2, keepdims=True), pairs


def _by_length(steps: Steps) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Captions of the same number of steps: where their steps are, and l(1), shape (n, length) each."""
    ends = np.cumsum(steps.counts)
    for length in np.unique(steps.counts[steps.counts > 0]).tolist():
        first = (ends - steps.counts)[steps.counts == length]
        at = first[:, None] + np.arange(length)
        yield at, steps.likely[at]
