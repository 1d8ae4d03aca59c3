"""PAMR, pixel-adaptive mask refinement (Araslanov and Roth, arXiv 2005.08104, section 4.2).

Each pixel's scores become, again and again, a mean of its neighbours' scores, in which neighbours
that look like the pixel weigh most. Nothing is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DILATIONS = (1, 2, 4, 8, 12, 24)
ITERATIONS = 10
CLASSES_AT_ONCE = 16  # bounds the memory beyond the scores themselves
_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def refine(
    image: Tensor,
    scores: Tensor,
    iterations: int = ITERATIONS,
    dilations: tuple[int, ...] = DILATIONS,
) -> Tensor:
    """Scores that follow the edges of the image.

    Args:
        image: shape (3, H, W), in any unit: differences count by their local spread.
        scores: shape (classes, H, W).
        iterations: how often scores travel to their neighbours.
        dilations: pixels to the eight neighbours of each ring.

    Returns:
        shape (classes, H, W), in the type of `scores`; every value is a mean of values.
    """
    weights = affinity(image.to(scores), dilations)
    refined = torch.empty_like(scores)
    for start in range(0, len(scores), CLASSES_AT_ONCE):
        part = scores[start : start + CLASSES_AT_ONCE]
        for _ in range(iterations):
            total = torch.zeros_like(part)
            for weight, neighbour in zip(weights, _neighbours(part, dilations), strict=True):
                total.addcmul_(weight, neighbour)
            part = total
        refined[start : start + CLASSES_AT_ONCE] = part
    return refined


def affinity(image: Tensor, dilations: tuple[int, ...] = DILATIONS) -> Tensor:
    """How much each neighbour weighs: a softmax of -|difference| / (0.1 spread), mean of channels.

    The spread is the standard deviation of the pixel and all its neighbours.

    Args:
        image: shape (3, H, W).
        dilations: see `refine`.

    Returns:
        shape (8 * dilations, H, W), which sums to 1 over its first direction.
    """
    count = 9 * len(dilations)
    total, squares = image * len(dilations), image.square() * len(dilations)
    for neighbour in _neighbours(image, dilations):
        total, squares = total + neighbour, squares + neighbour.square()
    variance = (squares - total.square() / count) / (count - 1)
    spread = variance.clamp(min=0).sqrt()
    weights = torch.stack(
        [
            -((image - neighbour).abs() / (1e-8 + 0.1 * spread)).mean(0)
            for neighbour in _neighbours(image, dilations)
        ]
    )
    return weights.softmax(0)


def _neighbours(x: Tensor, dilations: tuple[int, ...]):
    """Views of `x` (channels, H, W) shifted to each neighbour; the border repeats its last pixel."""
    height, width = x.shape[1:]
    for dilation in dilations:
        padded = F.pad(x[None], (dilation,) * 4, mode="replicate")[0]
        for y, x_shift in _NEIGHBOURS:
            top, left = dilation * (1 + y), dilation * (1 + x_shift)
            yield padded[:, top : top + height, left : left + width]
