"""Mean and overall IoU of expressions, and the two rules from similarities to masks."""

from __future__ import annotations

import numpy as np
import pytest

from eval.datasets.referring import ReferringSet
from eval.inference.settings import SIGMOID, Inference
from eval.referring_scores import _count, figures, mask_of


class Oracle:
    """Predicts each expression's true mask, or its complement."""

    inference = Inference(probability=SIGMOID)

    def __init__(self, data, group, inverted=False):
        masks = np.stack([data.mask(one) for one in group]).astype(np.float32)
        self.masks = 1 - masks if inverted else masks

    def probabilities(self, image):
        return self.masks


def judged(data, inverted: bool):
    counts, bad = [], []
    for image, group in data.expressions.items():
        oracle = Oracle(data, group, inverted)
        counts += [found for _, found in _count(oracle, "absolute", data, image, group, bad)]
    return figures(np.array(counts), bad, False)


@pytest.mark.parametrize("name", ["refcoco_val", "refcoco+_testA", "refcocog_val"])
def test_true_masks_score_100_and_their_complements_0(name, small):
    data = ReferringSet(name, small)
    assert len(data) == (2 if name.endswith("testA") else 6)
    perfect, wrong = judged(data, False), judged(data, True)
    assert perfect.mean == perfect.overall == 1
    assert wrong.mean == wrong.overall == 0


def test_mean_and_overall_iou_weigh_expressions_and_pixels():
    counts = np.array([[[50, 0], [10, 10]], [[0, 0], [0, 90]]])
    result = figures(counts, [], False)
    assert result.mean == pytest.approx((10 / 20 + 1) / 2)
    assert result.overall == pytest.approx(100 / 110)
    assert figures(counts[:0], [], False).to_json()["mean_iou"] is None


def test_a_relative_mask_does_not_depend_on_the_level_of_similarity():
    class Fixed:
        inference = Inference(probability=SIGMOID)

        def similarities(self, picture):
            return np.array([[[0.1, 0.2], [0.3, 0.2]], [[5.0, 5.0], [7.0, 6.0]]])

    masks = mask_of(Fixed(), "relative", None)
    assert masks.tolist() == [[[False, True], [True, True]], [[False, False], [True, True]]]
