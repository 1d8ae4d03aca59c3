"""Eq. 7, Eq. 8, background and windows, compared with their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from common.errors import UserError
from eval.inference.class_embeddings import class_embeddings
from eval.inference.segmenter import Segmenter
from eval.inference.settings import SIGMOID, Inference
from training.model import normalise

NAMES = ["cat", "dog", "grass", "sky", "car"]
SMALL = {"size": 32, "window": 32, "stride": 16}


def picture(width: int = 50, height: int = 41, seed: int = 0) -> Image.Image:
    """An image of smooth colour blobs, whose patches differ."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def images() -> list[Image.Image]:
    return [picture(50, 41, 0), picture(32, 32, 1), picture(20, 90, 2), picture(50, 41, 3)]


def segmenter(dense, background: float | None = None, **changes) -> Segmenter:
    embeddings = class_embeddings(dense, NAMES)
    return Segmenter(dense, embeddings, Inference(**(SMALL | changes)), background)


def by_definition(
    dense, image, weight=0.3, scale=30.0, bias=None, threshold=None, blend="similarity"
) -> np.ndarray:
    """Labels of an image that is one window, step by step."""
    embeddings = class_embeddings(dense, NAMES)
    pixels = torch.from_numpy(np.array(image))[None]
    trained, clip = dense.both(normalise(pixels, dense.mean, dense.std))

    def eq8(similarity):
        logits = scale * similarity.permute(0, 3, 1, 2)
        return logits.softmax(1) if bias is None else (logits + bias).sigmoid()

    if blend == "similarity":
        p = eq8((1 - weight) * trained @ embeddings.T + weight * clip @ embeddings.T)
    else:
        p = (1 - weight) * eq8(trained @ embeddings.T) + weight * eq8(clip @ embeddings.T)
    p = F.interpolate(p, size=image.size[::-1], mode="bilinear", align_corners=False)[0]
    best, index = p.max(0)
    if threshold is not None:
        index = torch.where(best < threshold, 0, index + 1)
    return index.numpy()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_labels_agree_with_the_equations(trained, weight):
    image = picture(32, 32, 1)
    labels = segmenter(trained, clip_weight=weight).label_maps([image])[0]
    assert labels.shape == (32, 32)
    assert labels.dtype == np.int16
    assert (labels == by_definition(trained, image, weight)).mean() > 0.999
    assert len(np.unique(labels)) > 1


def test_background_is_where_no_probability_reaches_the_threshold(trained):
    image = picture(32, 32, 1)
    without = segmenter(trained).label_maps([image])[0]
    for threshold in (0.21, 0.25, 0.3, 0.5):
        found = segmenter(trained, background=threshold).label_maps([image])[0]
        expected = by_definition(trained, image, threshold=threshold)
        assert (found == expected).mean() > 0.999
        assert (found[found > 0] - 1 == without[found > 0]).all()
    shares = [
        (segmenter(trained, background=t).label_maps([image])[0] == 0).mean() for t in (0, 0.25, 1)
    ]
    assert shares[0] == 0 < shares[1] < shares[2] == 1


def test_sigmoid_labels_agree_with_the_equation(trained):
    image = picture(32, 32, 1)
    settings = Inference(probability=SIGMOID)
    assert settings.threshold_of(0.1) == 0.4
    expected = by_definition(trained, image, scale=10.0, bias=-2.5, threshold=0.15)
    found = segmenter(trained, background=0.15, probability=SIGMOID).label_maps([image])[0]
    assert (found == expected).mean() > 0.999
    assert 0 < (found == 0).mean() < 1


@pytest.mark.parametrize("probability", ["softmax", "sigmoid"])
def test_eq_7_may_blend_probabilities_as_the_released_code_does(trained, probability):
    image = picture(32, 32, 1)
    form = {"softmax": {"scale": 30.0}, "sigmoid": {"scale": 10.0, "bias": -2.5}}[probability]
    changes = {"clip_weight": 0.5, "probability": probability}
    after, before = (
        segmenter(trained, blend=blend, **changes) for blend in ("probability", "similarity")
    )
    expected = by_definition(trained, image, 0.5, blend="probability", **form)
    assert (after.label_maps([image])[0] == expected).mean() > 0.999
    assert np.abs(after.probabilities(image) - before.probabilities(image)).max() > 1e-4


@pytest.mark.parametrize("blend", ["similarity", "probability"])
@pytest.mark.parametrize("pamr", [False, True])
def test_weight_1_is_exactly_clip(trained, surgery, pamr, blend):
    ours = segmenter(trained, clip_weight=1.0, pamr=pamr, blend=blend)
    clips = segmenter(surgery, pamr=pamr)
    for image in images():
        np.testing.assert_array_equal(ours.probabilities(image), clips.probabilities(image))
    for image in images():
        np.testing.assert_array_equal(ours.similarities(image), clips.similarities(image))
    for a, b in zip(ours.label_maps(images()), clips.label_maps(images()), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(
        segmenter(trained, clip_weight=0.0).similarities(picture()),
        clips.similarities(picture()),
    )


@pytest.mark.parametrize("pamr", [False, True])
def test_a_batch_of_images_has_the_labels_of_single_images(trained, pamr):
    together = segmenter(trained, pamr=pamr, batch=3).label_maps(images())
    for image, labels in zip(images(), together, strict=True):
        alone = segmenter(trained, pamr=pamr, batch=1).label_maps([image])[0]
        assert labels.shape == image.size[::-1]
        assert (labels == alone).mean() > 0.999


def test_the_map_of_an_image_is_the_mean_of_its_windows(trained):
    image = picture(80, 32, 4)  # windows at 0, 16, 32, 48
    whole = segmenter(trained).similarities(image)
    total, count = np.zeros_like(whole), np.zeros(80)
    for left in (0, 16, 32, 48):
        part = segmenter(trained).similarities(image.crop((left, 0, left + 32, 32)))
        total[:, :, left : left + 32] += part
        count[left : left + 32] += 1
    np.testing.assert_allclose(whole, total / count, atol=1e-5)


def test_a_window_of_0_encodes_the_whole_image_once(trained):
    calls = []
    one = segmenter(trained, window=0, size=48)
    original = one.dense.both
    try:
        one.dense.both = lambda x: calls.append(tuple(x.shape)) or original(x)
        labels = one.label_maps([picture(60, 41)])[0]
    finally:
        del one.dense.both
    assert calls == [(1, 3, 48, 72)]
    assert labels.shape == (41, 60)


class CornerDense:
    """Stands in for a model: a patch of 8 pixels has the class of its upper left pixel's colour."""

    patch_size, mean, std = 8, (0.5,) * 3, (0.5,) * 3

    def both(self, windows):
        corners = (windows[:, 0, ::8, ::8] > 0).long()  # (B, h, w)
        features = F.one_hot(corners, 2).float()  # (B, h, w, D)
        return features, features


def test_pamr_moves_a_boundary_between_patches_to_the_edge_in_the_image():
    edge = 36  # in the middle of the patch from 32 to 40, whose corner is dark
    bright = np.broadcast_to(np.arange(64) >= edge, (64, 64))
    image = Image.fromarray(np.stack([np.where(bright, 220, 30).astype(np.uint8)] * 3, -1))
    settings = {"size": 0, "window": 64, "stride": 64}
    plain, refined = (
        Segmenter(CornerDense(), torch.eye(2), Inference(pamr=pamr, **settings)).label_maps([image])
        for pamr in (False, True)
    )
    assert (plain[0] == (np.arange(64) >= 40)).all()
    np.testing.assert_array_equal(refined[0], bright)


def test_a_window_that_is_not_whole_patches_is_one_sentence(trained):
    with pytest.raises(UserError, match="--window 36 is not whole patches of 8 pixels"):
        segmenter(trained, window=36)
