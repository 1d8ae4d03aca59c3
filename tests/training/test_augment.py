"""Crops, resizing, RandAugment and erasing: what they do, and that an item's seed alone decides."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from training.augment import Augmentation, erased, middle, random_box, resize

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


@pytest.fixture
def crops(monkeypatch) -> list:
    """Size of what was decoded and box of what was cut out of it, of every image from now on."""
    taken, crop = [], Image.Image.crop

    def spy(self, box):
        taken.append((self.size, box))
        return crop(self, box)

    monkeypatch.setattr(Image.Image, "crop", spy)
    return taken


def jpeg(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=95)
    return sink.getvalue()


@pytest.mark.parametrize("crop", ["random", "center"])
@pytest.mark.parametrize(("factor", "scale"), [(1, 1), (2, 2), (7, 8)])
def test_an_image_decoded_at_a_reduced_scale_looks_as_if_it_were_not(crop, factor, scale, crops):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    width, height = 64 * factor, 48 * factor
    content = jpeg(small.resize((width, height), Image.Resampling.BICUBIC))
    ours = Augmentation(size=32, crop=crop, min_scale=0.5)(content, 7)
    [(decoded, box)] = crops
    assert decoded == (width // scale, height // scale)
    left, top, wide, high = (
        random_box(width, height, 0.5, random.Random(7))
        if crop == "random"
        else middle(width, height)
    )
    taken = np.multiply(box, scale)
    assert np.abs(taken - (left, top, left + wide, top + high)).max() <= scale / 2
    whole = Image.open(io.BytesIO(content)).resize(
        (32, 32), Image.Resampling.BICUBIC, box=tuple(taken)
    )
    assert np.abs(ours.astype(int) - np.asarray(whole).astype(int)).mean() < 6


def test_a_large_jpeg_is_decoded_at_a_reduced_scale(crops):
    Augmentation(size=224, crop="center")(jpeg(Image.new("RGB", (1600, 1200))), 0)
    assert crops == [((400, 300), (50, 0, 350, 300))]


@pytest.mark.parametrize(("height", "width"), [(375, 500), (300, 60), (90, 100), (1, 1), (1, 700)])
def test_images_are_resized_as_pillow_does_it(height, width):
    # Greys that no overshoot takes out of [0, 255], where the two clip at different times.
    noise = np.random.default_rng(0).integers(60, 190, (height, width, 3), np.uint8)
    resized = resize(noise, 64)
    assert resized.flags.c_contiguous  # else it takes as long to copy as it took to make
    ours = resized.astype(int)
    theirs = Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(ours - np.asarray(theirs).astype(int)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_every_mode_become_rgb(mode):
    sink = io.BytesIO()
    image = Image.new("RGB", (40, 30), (200, 30, 40)).convert(mode)
    image.save(sink, "JPEG" if mode in ("L", "CMYK") else "PNG")
    square = Augmentation(size=16)(sink.getvalue(), 0)
    assert square.shape == (16, 16, 3)
    assert square.dtype == np.uint8


def test_random_boxes_cover_the_allowed_areas_and_ratios():
    rng = random.Random(0)
    boxes = [random_box(640, 480, 0.25, rng) for _ in range(2000)]
    areas = [w * h / (640 * 480) for _, _, w, h in boxes]
    ratios = [w / h for _, _, w, h in boxes]
    assert 0.24 < min(areas) < 0.27
    assert max(areas) > 0.95
    assert min(ratios) > 0.74
    assert max(ratios) < 1.35
    assert all(x >= 0 and y >= 0 and x + w <= 640 and y + h <= 480 for x, y, w, h in boxes)


@pytest.mark.parametrize(("width", "height"), [(1000, 3), (3, 1000), (1, 1)])
def test_a_strip_gives_its_middle(width, height):
    x, y, w, h = random_box(width, height, 0.9, random.Random(1))
    assert x >= 0
    assert y >= 0
    assert 1 <= w <= width
    assert 1 <= h <= height


def test_a_flip_and_a_jitter_change_the_image(world):
    content = next(iter(world.folder.iterdir())).read_bytes()
    plain = Augmentation(size=32, crop="center")(content, 0)
    flipped = Augmentation(size=32, crop="center", flip=1.0)(content, 0)
    assert np.array_equal(flipped, plain[:, ::-1])
    assert not np.array_equal(Augmentation(size=32, crop="center", jitter=0.4)(content, 0), plain)


def test_an_unknown_augmentation_is_refused():
    for wrong in ({"crop": "corner"}, {"min_scale": 0}, {"flip": 2}, {"jitter": 1}, {"size": 0}):
        with pytest.raises(ValueError, match="not"):
            Augmentation(**wrong)
