"""Every reader, on a miniature of its folder and on incomplete or damaged folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from eval.confusion import IGNORE
from eval.datasets.benchmark_list import BENCHMARKS, open_benchmark
from eval.datasets.benchmarks import BadImage, Description
from tests.eval.datasets.miniatures import (
    KEYS,
    MINIATURES,
    SIZE,
    cityscapes,
    coco_stuff,
    save_mask,
    values,
)

CLASSES = {
    "voc": 21, "voc20": 20, "context": 60, "context59": 59, "coco_object": 81, "coco_stuff": 171,
    "cityscapes": 19, "ade20k": 150, "imagenet_s50": 51, "imagenet_s300": 301,
}  # fmt: skip
# The classes of the second image's stripes.
STRIPES = {
    "voc": [0, 2, 20, IGNORE],
    "voc20": [IGNORE, 1, 19, IGNORE],
    "context": [0, 2, 20, IGNORE],
    "context59": [IGNORE, 1, 19, IGNORE],
    "coco_stuff": [IGNORE, 1, 170],
    "cityscapes": [IGNORE, 1, 18],
    "ade20k": [IGNORE, 1, 149],
    "imagenet_s50": [0, 50, IGNORE],
    "imagenet_s300": [0, 300, IGNORE],
}


def test_every_benchmark_has_a_miniature_and_a_data_file():
    assert set(MINIATURES) == set(BENCHMARKS) == set(CLASSES)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_reader_finds_images_classes_and_truth(name, tmp_path):
    MINIATURES[name](tmp_path)
    benchmark = open_benchmark(name, tmp_path)
    assert len(benchmark) == 2
    assert len(benchmark.class_names) == CLASSES[name]
    assert len(set(benchmark.class_names)) == CLASSES[name]
    for key in benchmark.keys:
        image, truth = benchmark.image(key), benchmark.truth(key)
        assert image.mode == "RGB"
        assert image.size == SIZE
        assert truth.dtype == np.int16
        assert truth.shape == SIZE[::-1]
    if name in STRIPES:
        np.testing.assert_array_equal(truth, values(*STRIPES[name]))


@pytest.mark.parametrize(("name", "draw"), [("coco_stuff", coco_stuff), ("cityscapes", cityscapes)])
def test_published_masks_give_the_same_classes_as_converted_ones(name, draw, tmp_path):
    draw(tmp_path / "raw", converted=False)
    draw(tmp_path / "converted", converted=True)
    raw, converted = (open_benchmark(name, tmp_path / kind) for kind in ("raw", "converted"))
    for key in raw.keys:
        np.testing.assert_array_equal(raw.truth(key), converted.truth(key))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_data_may_be_the_data_sets_own_folder(name, tmp_path):
    MINIATURES[name](tmp_path)
    inner = {
        "voc": "VOCdevkit/VOC2012", "voc20": "VOCdevkit/VOC2012", "context": "VOCdevkit/VOC2010",
        "context59": "VOCdevkit/VOC2010", "coco_stuff": "coco_stuff164k", "cityscapes": "cityscapes",
        "ade20k": "ADEChallengeData2016", "imagenet_s50": "ImageNetS50",
        "imagenet_s300": "ImageNetS300", "coco_object": ".",
    }[name]  # fmt: skip
    assert len(open_benchmark(name, tmp_path / inner)) == 2


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_folder_is_named_with_the_places_searched_and_the_source(name, tmp_path):
    about = Description.read(name)
    with pytest.raises(UserError) as caught:
        open_benchmark(name, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{about.title} is missing: it needs ")
    assert f"looked in {tmp_path}" in message
    assert message.endswith(f"get it from {about.source}")
    assert "\n" not in message
    with pytest.raises(UserError, match="there is no folder"):
        open_benchmark(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_incomplete_folder_is_named_with_what_is_missing(name, tmp_path):
    MINIATURES[name](tmp_path)
    benchmark = open_benchmark(name, tmp_path)
    image = benchmark.image_path(benchmark.keys[1])
    folder = image.parent
    image.unlink()
    if name in ("voc", "voc20", "context", "context59", "coco_object"):  # these list their images
        with pytest.raises(UserError, match=f"1 of 2 images are missing, the first is {image}"):
            open_benchmark(name, tmp_path)
        shutil.rmtree(folder)
        with pytest.raises(UserError, match=r"is incomplete: .* lacks (JPEGImages|val2017)"):
            open_benchmark(name, tmp_path)
    else:
        benchmark.masks[benchmark.keys[0]].unlink()
        with pytest.raises(UserError, match="1 of 1 masks are missing, the first is"):
            open_benchmark(name, tmp_path)


def test_masks_of_another_size_than_their_images_are_one_sentence(tmp_path):
    MINIATURES["voc"](tmp_path)
    benchmark = open_benchmark("voc", tmp_path)
    save_mask(benchmark.masks[KEYS[1]], np.zeros((24, 41)))
    with pytest.raises(UserError, match="is 41 x 24 pixels, and its image 40 x 24 pixels"):
        open_benchmark("voc", tmp_path)


def test_a_damaged_image_or_mask_is_reported_with_its_reason(tmp_path):
    MINIATURES["ade20k"](tmp_path)
    benchmark = open_benchmark("ade20k", tmp_path)
    save_mask(benchmark.masks[KEYS[0]], values(1, 151))
    with pytest.raises(BadImage, match="holds the value 151, which is none of the 150 classes"):
        benchmark.truth(KEYS[0])
    Image.new("RGB", SIZE).save(benchmark.masks[KEYS[0]])
    with pytest.raises(BadImage, match="has 3 channels"):
        benchmark.truth(KEYS[0])
    benchmark.masks[KEYS[1]].write_bytes(b"\x89PNG torn")
    with pytest.raises(BadImage, match="mask is damaged"):
        benchmark.truth(KEYS[1])
    path = benchmark.image_path(KEYS[0])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadImage, match="it cannot be read"):
        benchmark.image(KEYS[0])


def test_a_mask_of_two_values_stored_as_bits_is_read(tmp_path):
    MINIATURES["voc"](tmp_path)
    benchmark = open_benchmark("voc", tmp_path)
    Image.fromarray(values(0, 1).astype(bool)).save(benchmark.masks[KEYS[0]])
    np.testing.assert_array_equal(benchmark.truth(KEYS[0]), values(0, 1))


def test_imagenet_s_with_other_class_folders_is_refused(tmp_path):
    MINIATURES["imagenet_s50"](tmp_path)
    (tmp_path / "ImageNetS50/validation/n99999999").mkdir()
    with pytest.raises(UserError, match="has 51 folders, but ImageNetS50 has 50"):
        open_benchmark("imagenet_s50", tmp_path)
