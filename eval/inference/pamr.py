"""PAMR, pixel-adaptive mask refinement (Araslanov and Roth, arXiv 2005.08104, section 4.2).

Each iteration replaces a pixel's scores by a weighted mean of its neighbours' scores. Neighbours of
similar colour have the largest weights. Nothing is learned.

Shapes: H, W height and width in pixels; n classes; K neighbours of a pixel, 8 per dilation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DILATIONS = (1, 2, 4, 8, 12, 24)
ITERATIONS = 10
CLASSES_AT_ONCE = 16  # bounds the memory beyond the scores
_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def refine(
    image: Tensor,
    scores: Tensor,
    iterations: int = ITERATIONS,
    dilations: tuple[int, ...] = DILATIONS,
) -> Tensor:
    """Aligns scores with the edges of an image.

    Args:
        image: shape (3, H, W), on any scale, as differences are divided by their local deviation.
        scores: floats of shape (n, H, W).
        iterations: number of iterations.
        dilations: distances in pixels to the eight neighbours of each ring.

    Returns:
        shape (n, H, W), with the dtype of `scores`; every value is a weighted mean of `scores`.
    """
    weights = affinity(image.to(scores), dilations)  # (K, H, W)
    refined = torch.empty_like(scores)  # (n, H, W)
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
    """The weights of each pixel's neighbours.

    They are a softmax over neighbours of -|difference| / (0.1 * deviation), averaged over channels. The
    deviation is the standard deviation of the pixel and all its neighbours.

    Args:
        image: floats of shape (3, H, W).
        dilations: see `refine`.

    Returns:
        shape (K, H, W); the sum over dimension 0 is 1.
    """
    count = 9 * len(dilations)
    total, squares = image * len(dilations), image.square() * len(dilations)
    for neighbour in _neighbours(image, dilations):
        total, squares = total + neighbour, squares + neighbour.square()
    variance = (squares - total.square() / count) / (count - 1)  # (3, H, W)
    deviation = variance.clamp(min=0).sqrt()
    weights = torch.stack(
        [
            -((image - neighbour).abs() / (1e-8 + 0.1 * deviation)).mean(0)
            for neighbour in _neighbours(image, dilations)
        ]
    )  # (K, H, W)
    return weights.softmax(0)


def _neighbours(x: Tensor, dilations: tuple[int, ...]):
    """Views of `x` (channels, H, W) shifted by each of the K offsets; border pixels are repeated."""
    height, width = x.shape[1:]
    for dilation in dilations:
        padded = F.pad(x[None], (dilation,) * 4, mode="replicate")[0]
        for y, x_shift in _NEIGHBOURS:
            top, left = dilation * (1 + y), dilation * (1 + x_shift)
            yield padded[:, top : top + height, left : left + width]
