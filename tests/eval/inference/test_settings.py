"""Settings of inference are validated, and choose the threshold."""

from __future__ import annotations

import pytest

from common.errors import UserError
from eval.inference.settings import SIGMOID, SOFTMAX, Inference


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_weight": 1.5}, "--clip-weight is between 0 and 1"),
        ({"blend": "logits"}, "--blend is one of similarity, probability"),
        ({"probability": "tanh"}, "--probability is one of softmax, sigmoid"),
        ({"templates": "x"}, "--templates is one of"),
        ({"scale": 0.0}, "--scale is a number above 0"),
        ({"scale": float("inf")}, "--scale is a number above 0"),
        ({"scale": float("nan")}, "--scale is a number above 0"),
        ({"bias": float("nan")}, "--bias is a number"),
        ({"bias": float("-inf")}, "--bias is a number"),
        ({"threshold": float("nan")}, "--threshold is between 0 and 1"),
        ({"threshold": 2.0}, "--threshold is between 0 and 1"),
        ({"stride": 500}, "leaves gaps between windows"),
        ({"stride": 0}, "--stride is at least 1"),
        ({"batch": 0}, "--batch is at least 1"),
        ({"longest": 0}, "--longest is at least 1"),
        ({"most_pixels": -1}, "--most-pixels is at least 0"),
        ({"protocol": "tcl"}, "--protocol is one of release, release-dev, paper, group-vit, sclip"),
        ({"normalisation": "none"}, "--normalisation is one of imagenet, clip"),
        ({"resize": "nearest"}, "--resize is one of plain, antialias"),
        ({"absent": "nan"}, "--absent is one of zero, left-out"),
        ({"pamr_in": "patch"}, "--pamr-in is one of window, image"),
        ({"eq8": "window"}, "--eq8 is one of patch, pixel"),
        ({"eq8": "pixel"}, "it needs --blend similarity"),
        ({"eq8": "pixel", "blend": "similarity", "pamr": True}, "PAMR needs --pamr-in image"),
    ],
)
def test_a_value_out_of_range_is_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        Inference(**changes)


def test_the_threshold_is_the_users_else_the_benchmarks_for_softmax_and_fixed_for_sigmoid():
    assert Inference(threshold=0.7).threshold_of(0.1) == 0.7
    assert Inference(probability=SOFTMAX).threshold_of(0.1) == 0.1
    assert Inference(probability=SOFTMAX).threshold_of(None) == 0
    assert Inference(probability=SIGMOID).threshold_of(0.1) == 0.4


def test_the_batch_size_is_not_part_of_what_results_depend_on():
    assert Inference(batch=2).to_json() == Inference(batch=8).to_json()
    assert Inference(stride=112).to_json() != Inference().to_json()
