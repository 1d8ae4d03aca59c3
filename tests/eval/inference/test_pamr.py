"""PAMR aligns scores with the image's edges, by the definition's weights."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from eval.inference.pamr import DILATIONS, affinity, refine


def two_colours(height: int = 40, width: int = 60) -> torch.Tensor:
    image = torch.zeros(3, height, width)
    image[0], image[2, :, width // 2 :] = 0.9, 0.8
    return image


def blurred_edge(height: int = 40, width: int = 60) -> torch.Tensor:
    """Two classes with a ramp between them that is off the edge in `two_colours`."""
    ramp = ((torch.arange(width) - width * 0.4) / (width * 0.25)).clamp(0, 1)
    right = ramp.expand(height, width)
    return torch.stack([1 - right, right])


@pytest.mark.parametrize("image", [two_colours(), torch.rand(3, 40, 60), torch.zeros(3, 40, 60)])
def test_constant_scores_stay_constant(image):
    scores = torch.tensor([0.2, 0.5, 0.3])[:, None, None].expand(3, 40, 60)
    torch.testing.assert_close(refine(image, scores), scores.contiguous(), atol=1e-5, rtol=0)


def test_a_blurred_edge_becomes_sharp_where_the_colours_change():
    image, scores = two_colours(), blurred_edge()
    truth = (torch.arange(60) >= 30).long().expand(40, 60)
    refined = refine(image, scores)

    def wrong(x: torch.Tensor) -> int:
        return int((x.argmax(0) != truth).sum())

    def step(x: torch.Tensor) -> float:
        return float((x[1, :, 30] - x[1, :, 29]).mean())

    assert wrong(scores) > 50
    assert wrong(refined) < wrong(scores) / 4
    assert step(refined) > 4 * step(scores)


def test_each_class_is_refined_independently_of_the_others():
    image = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))
    scores = torch.rand(35, 20, 24, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([refine(image, one[None]) for one in scores])
    torch.testing.assert_close(refine(image, scores), alone)


def test_refined_scores_are_weighted_means_of_scores():
    image = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))
    scores = torch.rand(4, 20, 24, generator=torch.Generator().manual_seed(1)).softmax(0)
    refined = refine(image, scores)
    assert refined.min() >= scores.min() - 1e-6
    assert refined.max() <= scores.max() + 1e-6
    torch.testing.assert_close(refined.sum(0), torch.ones(20, 24), atol=1e-5, rtol=0)


def test_weights_agree_with_the_definition():
    image = torch.rand(3, 11, 13, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weights = affinity(image)
    assert weights.shape == (8 * len(DILATIONS), 11, 13)
    y, x, around = 5, 6, []
    for dilation in DILATIONS:
        padded = F.pad(image[None], (dilation,) * 4, mode="replicate")[0]
        patch = padded[:, y : y + 2 * dilation + 1 : dilation, x : x + 2 * dilation + 1 : dilation]
        around.append(patch.flatten(1))
    values = torch.cat(around, 1)
    spread = values.std(1, keepdim=True)
    keep = [i for i in range(values.shape[1]) if i % 9 != 4]
    differences = (values[:, keep] - image[:, y, x, None]).abs()
    expected = (-differences / (1e-8 + 0.1 * spread)).mean(0).softmax(0)
    torch.testing.assert_close(weights[:, y, x], expected)
