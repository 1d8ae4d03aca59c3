"""Eq. 7, Eq. 8, background and windows, compared with their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from common.errors import UserError
from eval.inference.class_embeddings import class_embeddings
from eval.inference.pamr import refine
from eval.inference.resizing import reduced
from eval.inference.segmenter import Segmenter, highest
from eval.inference.settings import PIXEL, SIGMOID, SIMILARITY, SOFTMAX, WINDOW, Inference
from training.model import normalise

NAMES = ["cat", "dog", "grass", "sky", "car"]
SMALL = {"size": 32, "window": 32, "stride": 16, "probability": SOFTMAX, "blend": SIMILARITY}


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


@pytest.mark.parametrize("classes", [1, 2, 301])
def test_of_equal_scores_the_first_class_wins_and_no_difference_is_too_small(classes):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (3, classes, 50), generator=generator).float()
    scores *= torch.tensor([1.0, 1e-12, 1e-44])[:, None, None]  # the last are not normal numbers
    expected, first = scores.numpy().max(1), scores.numpy().argmax(1)
    best, index = highest(scores)
    assert (best.numpy() == expected).all()
    assert (index.numpy() == first).all()


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


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 700)])
def test_an_image_of_any_shape_has_a_class_at_each_pixel(trained, size):
    labels = segmenter(trained, 0.3).label_maps([picture(*size)])[0]
    assert labels.shape == size[::-1]
    assert set(np.unique(labels)) <= set(range(len(NAMES) + 1))


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


@pytest.mark.parametrize("pamr_in", ["window", "image"])
def test_pamr_moves_a_boundary_between_patches_to_the_edge_in_the_image(pamr_in):
    edge = 36  # in the middle of the patch from 32 to 40, whose corner is dark
    bright = np.broadcast_to(np.arange(64) >= edge, (64, 64))
    image = Image.fromarray(np.stack([np.where(bright, 220, 30).astype(np.uint8)] * 3, -1))
    settings = {"size": 0, "window": 64, "stride": 64, "pamr_in": pamr_in}
    plain, refined = (
        Segmenter(CornerDense(), torch.eye(2), Inference(pamr=pamr, **settings)).label_maps([image])
        for pamr in (False, True)
    )
    assert (plain[0] == (np.arange(64) >= 40)).all()
    np.testing.assert_array_equal(refined[0], bright)


def test_a_window_that_is_not_whole_patches_is_one_sentence(trained):
    with pytest.raises(UserError, match="--window 36 is not whole patches of 8 pixels"):
        segmenter(trained, window=36)


@pytest.mark.parametrize("eq8", ["patch", "pixel"])
def test_of_several_names_of_a_class_the_best_counts(trained, eq8):
    image, owners = picture(50, 41), [0, 1, 1, 0, 2]
    embeddings = class_embeddings(trained, NAMES)
    settings = Inference(**SMALL, eq8=eq8, pamr_in="image")
    each = Segmenter(trained, embeddings, settings).probabilities(image)
    ours = Segmenter(trained, embeddings, settings, owners=owners)
    expected = np.stack([each[[0, 3]].max(0), each[[1, 2]].max(0), each[4]])
    np.testing.assert_allclose(ours.probabilities(image), expected, atol=1e-6)
    np.testing.assert_array_equal(ours.label_maps([image])[0], expected.argmax(0))
    refined = Segmenter(trained, embeddings, replace(settings, pamr=True), owners=owners)
    assert set(np.unique(refined.label_maps([image])[0])) <= {0, 1, 2}


@pytest.mark.parametrize("eq8", ["patch", "pixel"])
def test_a_pixel_whose_best_name_is_a_word_for_the_background_is_background(trained, eq8):
    image = picture(32, 32, 1)
    embeddings = class_embeddings(trained, NAMES)
    settings = Inference(**SMALL, eq8=eq8)
    whole = Segmenter(trained, embeddings, settings).label_maps([image])[0]
    words = set(np.unique(whole)[:2])  # the rest are classes, numbered from 1 in their order
    owners, count = [], 0
    for number in range(len(NAMES)):
        owners.append(-1 if number in words else count)
        count += number not in words
    expected = np.array([owner + 1 for owner in owners])[whole]
    ours = Segmenter(trained, embeddings, settings, owners=owners)
    assert (ours.label_maps([image])[0] == expected).mean() > 0.999
    assert ours.probabilities(image).shape[0] == count
    everywhere = Segmenter(trained, embeddings, settings, 1.0, owners).label_maps([image])[0]
    assert not everywhere.any()  # a threshold may be given as well


def test_eq_8_at_pixels_is_taken_of_the_joined_similarities(trained):
    image = picture(50, 41)
    at_pixels = segmenter(trained, eq8=PIXEL)
    similarity = torch.from_numpy(at_pixels.similarities(image))
    expected = (30 * similarity).softmax(0).numpy()
    np.testing.assert_allclose(at_pixels.probabilities(image), expected, atol=1e-6)
    np.testing.assert_array_equal(at_pixels.label_maps([image])[0], expected.argmax(0))
    assert np.abs(segmenter(trained).probabilities(image) - expected).max() > 1e-4


def test_pamr_in_windows_is_the_mean_of_refined_windows(trained):
    image = picture(48, 32, 4)  # windows at 0 and 16
    ours = segmenter(trained, pamr=True, pamr_in=WINDOW, size=0)
    total, count = torch.zeros(len(NAMES), 32, 48), torch.zeros(48)
    for left in (0, 16):
        part = image.crop((left, 0, left + 32, 32))
        pixels = torch.from_numpy(np.array(part))[None]
        scores = torch.from_numpy(segmenter(trained, size=0).probabilities(part))
        tensor = normalise(pixels, trained.mean, trained.std)[0]
        total[:, :, left : left + 32] += refine(tensor, scores)
        count[left : left + 32] += 1
    found = ours.label_maps([image])[0]
    assert (found == (total / count).argmax(0).numpy()).mean() > 0.99


def test_a_large_image_is_reduced_and_its_classes_enlarged_by_nearest(trained):
    image = picture(100, 60)
    found = segmenter(trained, most_pixels=2500).label_maps([image])[0]
    small = Image.fromarray(np.array(reduced(image, 2500)))
    assert small.size == (50, 30)
    expected = segmenter(trained).label_maps([small])[0]
    np.testing.assert_array_equal(found, expected.repeat(2, 0).repeat(2, 1))
    assert segmenter(trained, most_pixels=6000).label_maps([image])[0].shape == (60, 100)


class Syncs(TorchDispatchMode):
    """Counts the operations for which a GPU would stop the host until its work is done."""

    names = ("nonzero", "_local_scalar_dense", "masked_select", "item")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name.startswith(("index", "_index_put")) and any(
            isinstance(one, torch.Tensor) and one.dtype == torch.bool
            for listed in args
            if isinstance(listed, list | tuple)
            for one in listed
        )
        self.count += name in self.names or by_mask
        return function(*args, **(kwargs or {}))


def test_counting_syncs_sees_masks_scalars_and_nonzero():
    x = torch.arange(4)
    with Syncs() as syncs:
        x[x > 1].sum().item()
        (x > 1).nonzero()
    assert syncs.count == 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"eq8": PIXEL},
        {"probability": SIGMOID},
        {"blend": "probability", "clip_weight": 0.5},
        {"stride": 8},
        {"most_pixels": 10_000},
        {"pamr": True},
        {"pamr": True, "pamr_in": "image"},
        {"pamr": True, "pamr_in": "image", "eq8": PIXEL},
    ],
    ids=str,
)
@pytest.mark.parametrize("background", [None, 0.1, "words"])
def test_an_image_of_171_classes_needs_few_syncs(trained, changes, background):
    """COCO-Stuff's; each band of the result once waited for a GPU to search for its columns."""
    names = 9 if "pamr" in changes else 171  # PAMR takes long
    embeddings = F.normalize(torch.randn(names, trained.embed_dim), dim=-1)
    settings = Inference(**(SMALL | {"size": 64} | changes))
    last = -1 if background == "words" else names - 2
    threshold = None if background == "words" else background
    ours = Segmenter(trained, embeddings, settings, threshold, [*range(names - 1), last])
    with Syncs() as syncs:
        ours.label_maps([picture(*((64, 48) if settings.pamr else (640, 480)), 8)])
    assert syncs.count <= 12
