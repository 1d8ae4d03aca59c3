"""Mean IoU agrees with torchmetrics and with a loop over classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_jaccard_index

from eval.confusion import IGNORE, ZERO, ConfusionMatrix, from_sparse, to_sparse


def draw(seed: int, classes: int, images: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(IGNORE, classes, (images, 13, 17)).astype(np.int16)
    predicted = np.where(
        random.random(truth.shape) < 0.5, truth, random.integers(0, classes, truth.shape)
    )
    return truth, np.where(predicted == IGNORE, 0, predicted)


@pytest.mark.parametrize("classes", [2, 21, 171, 301])
def test_iou_agrees_with_torchmetrics(classes):
    truth, predicted = draw(classes, classes, images=40)
    matrix = ConfusionMatrix(classes)
    for one, guess in zip(truth, predicted, strict=True):
        matrix.add(one, guess)
    expected = multiclass_jaccard_index(
        torch.from_numpy(predicted.astype(np.int64)),
        torch.from_numpy(truth.astype(np.int64)),
        classes,
        average="none",
        ignore_index=IGNORE,
    )
    np.testing.assert_allclose(matrix.iou, expected.numpy(), rtol=1e-6)
    assert matrix.miou == pytest.approx(expected.mean().item(), rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_iou_agrees_with_a_loop_over_classes(seed, classes):
    truth, predicted = draw(seed, classes)
    matrix = ConfusionMatrix(classes)
    matrix.add(truth, predicted)
    kept = truth != IGNORE
    for c in range(classes):
        both = ((truth == c) & (predicted == c)).sum()
        either = (((truth == c) | (predicted == c)) & kept).sum()
        if (truth == c).any():
            assert matrix.iou[c] == pytest.approx(both / either)
        else:
            assert math.isnan(matrix.iou[c])


def test_a_class_without_truth_is_not_in_the_mean():
    matrix = ConfusionMatrix(3)
    matrix.add(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]))
    assert matrix.miou == pytest.approx((0.5 + 1) / 2)
    assert math.isnan(ConfusionMatrix(3).miou)
    assert math.isnan(ConfusionMatrix(3).pixel_accuracy)


def test_a_class_that_is_predicted_and_has_no_truth_may_count_as_0():
    matrix = ConfusionMatrix(4, ZERO)
    matrix.add(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]))
    np.testing.assert_array_equal(matrix.iou, [0.5, 1, 0, math.nan])  # as mmsegmentation
    assert matrix.miou == pytest.approx((0.5 + 1 + 0) / 3)
    assert math.isnan(ConfusionMatrix(4, ZERO).miou)


def test_predictions_on_ignored_pixels_are_dropped():
    matrix = ConfusionMatrix(2)
    matrix.add(np.array([0, 1, IGNORE, IGNORE]), np.array([0, 1, 0, 77]))
    assert matrix.miou == 1
    assert matrix.counts.sum() == 2


def test_classes_out_of_range_are_refused_and_not_counted():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="the truth holds class 3, outside 0 to 2"):
        matrix.add(np.array([3]), np.array([0]))
    with pytest.raises(ValueError, match="the prediction holds class -1"):
        matrix.add(np.array([0]), np.array([-1]))
    with pytest.raises(ValueError, match="truth is"):
        matrix.add(np.zeros((2, 3), int), np.zeros((3, 2), int))
    assert matrix.counts.sum() == 0


def test_sparse_counts_convert_back_to_the_same_matrix():
    truth, predicted = draw(5, 21)
    matrix = ConfusionMatrix(21)
    counts = matrix.add(truth, predicted)
    np.testing.assert_array_equal(from_sparse(to_sparse(counts), 21), counts)
    with pytest.raises(ValueError, match="but there are 2"):
        from_sparse([[0, 5, 1]], 2)
