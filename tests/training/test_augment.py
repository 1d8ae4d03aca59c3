"""RandAugment and erasing: what they do, and that an item's seed alone decides."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from training.augment import Augmentation, erased, resize

NAME = "rand-m9-mstd0.5-inc1"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def photo(pictures) -> bytes:
    return pictures["000003"][1]


@pytest.mark.parametrize("changes", [{"randaugment": NAME}, {"erasing": 1.0}], ids=str)
def test_the_seed_alone_decides_and_others_generators_are_left_alone(changes, photo):
    ours = Augmentation(32, mean=MEAN, std=STD, **changes)
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    first = ours(photo, 7)
    assert (random.random(), np.random.random()) == expected
    random.seed(11)
    assert np.array_equal(ours(photo, 7), first)
    assert len({ours(photo, seed).tobytes() for seed in range(20)}) == 20
    assert first.dtype == np.uint8
    assert first.shape == (32, 32, 3)


def test_randaugment_is_timms_for_images_of_this_size(photo):
    """Seeded as one image is, timm's own transform of the crop gives the same pixels."""
    plain = Augmentation(32, "center", interpolation="bilinear")
    ours = Augmentation(
        32, "center", interpolation="bilinear", randaugment=NAME, mean=MEAN, std=STD
    )
    theirs = rand_augment_transform(
        NAME,
        {
            "translate_const": 14,
            "img_mean": (124, 116, 104),
            "interpolation": Image.Resampling.BILINEAR,
        },
    )
    changed = 0
    for seed in range(30):
        crop = Image.fromarray(plain(photo, seed))
        drawn = random.Random(seed).getrandbits(32)
        random.seed(drawn)
        np.random.seed(drawn)
        expected = np.asarray(theirs(crop))
        assert np.array_equal(ours(photo, seed), expected)
        changed += not np.array_equal(expected, np.asarray(crop))
    assert changed > 15


def test_erasing_puts_noise_of_the_pixels_distribution_into_one_rectangle():
    square = np.full((64, 64, 3), 255, np.uint8)
    shares, values = [], []
    for seed in range(300):
        after = erased(square, MEAN, STD, random.Random(seed))
        touched = (after != square).any(axis=2)
        rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert touched.sum() > 0.97 * height * width  # noise may be white by chance
        assert 0.25 < height / width < 4
        shares.append(height * width / 64**2)
        values.append(after[touched].mean(axis=0))
    assert min(shares) > 0.01
    assert max(shares) < 0.36
    assert np.mean(shares) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    assert np.mean(values, axis=0) / 255 == pytest.approx(np.array(MEAN), abs=0.02)
    assert (square == 255).all()


def test_erasing_happens_with_its_probability(photo):
    plain, ours = Augmentation(32, "center"), Augmentation(32, "center", erasing=0.25)
    different = [not np.array_equal(ours(photo, s), plain(photo, s)) for s in range(400)]
    assert np.mean(different) == pytest.approx(0.25, abs=0.06)


def test_bilinear_crops_are_pillows():
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(noise).resize((32, 32), Image.Resampling.BILINEAR))
    ours = resize(noise, 32, "bilinear").astype(int)
    assert abs(ours - pillow).max() <= 2
    assert abs(resize(noise, 32).astype(int) - pillow).max() > 10


def test_a_format_without_colours_is_augmented(photo):
    grey = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("L").save(grey, "PNG")
    square = Augmentation(32, randaugment=NAME, erasing=1.0)(grey.getvalue(), 1)
    assert square.shape == (32, 32, 3)
