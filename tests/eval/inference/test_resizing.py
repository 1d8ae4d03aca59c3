"""Images are resized as OpenCV and mmcv do, or as Pillow does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from eval.inference.resizing import enlarge, reduced, resized_size, to_pixels

CPU = torch.device("cpu")


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (597, 448)),
        ((480, 640), (448, 597)),
        ((500, 375), (597, 448)),
        ((2000, 300), (2048, 307)),  # the longer side is at most 2048
        ((448, 448), (448, 448)),
        ((10_000, 1), (2048, 1)),
    ],
)
def test_the_shorter_side_is_448_and_the_longer_at_most_2048(size, expected):
    assert resized_size(size, 448, 2048) == expected
    assert resized_size(size, 0, 2048) == size


@pytest.mark.parametrize("size", [(597, 448), (100, 75), (333, 500)], ids=str)
def test_plain_is_opencvs_bilinear_and_antialias_is_pillows(size):
    cv2 = pytest.importorskip("cv2")
    image = photo(640, 480)
    plain, antialias = (to_pixels(image, size, how, CPU).numpy() for how in ("plain", "antialias"))
    opencv = cv2.resize(np.array(image), size, interpolation=cv2.INTER_LINEAR)
    assert np.abs(plain.astype(int) - opencv).max() <= 1
    pillow = image.resize(size, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(antialias, np.array(pillow))
    assert np.abs(plain.astype(int) - antialias).max() > 10


@pytest.mark.parametrize("how", ["plain", "antialias"])
def test_an_image_of_the_right_size_is_left_as_it_is(how):
    image = photo(64, 48)
    np.testing.assert_array_equal(to_pixels(image, image.size, how, CPU), np.array(image))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((2000, 1000), (1000, 500)), ((1000, 1001), (999, 1000)), ((1000, 1000), (1000, 1000)),
     ((3000, 100), (3000, 100))],
)  # fmt: skip
def test_images_over_a_megapixel_are_reduced_to_a_longer_side_of_1000(size, expected):
    assert reduced(photo(*size), 1_000_000).size == expected
    assert reduced(photo(*size), 0).size == size


def test_classes_are_enlarged_by_nearest():
    labels = torch.tensor([[0, 300], [7, 1]], dtype=torch.int16)
    expected = labels.repeat_interleave(3, 0).repeat_interleave(2, 1)
    found = enlarge(labels, (6, 4))
    assert found.dtype == torch.int16
    torch.testing.assert_close(found, expected)
