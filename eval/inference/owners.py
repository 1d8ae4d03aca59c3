"""Which class each name belongs to: several names of a class, and words for the background.

Shapes: B maps, m names of n classes; h, w sides of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Owners:
    """Reduces the scores of m names to those of classes, of which the best name counts.

    Args:
        owners: the class of each name, from 0; -1 for a word for the background.
        device: of the scores.

    Attributes:
        words: whether there are words for the background, which is then class 0 of `best`.
    """

    def __init__(self, owners: Sequence[int], device: torch.device):
        owners = list(owners)
        self.words = -1 in owners
        self._rows = [one + self.words for one in owners]
        self._index = torch.tensor(self._rows, device=device)  # (m,)

    def best(self, scores: Tensor) -> Tensor:
        """Scores of names (B, m, ...) to those of classes, the background's first if it has words."""
        count = max(self._rows) + 1
        if self._rows == list(range(count)):
            return scores
        best = scores.new_full((len(scores), count, *scores.shape[2:]), -torch.inf)
        return best.index_reduce_(1, self._index, scores, "amax")

    def classes_only(self, scores: Tensor) -> Tensor:
        """Scores of classes (n, h, w), without the background's words."""
        return scores[1:] if self.words else scores
