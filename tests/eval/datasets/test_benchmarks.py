"""Every reader, on a miniature of its folder and on incomplete or damaged folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from eval.confusion import IGNORE
from eval.datasets.benchmark_list import BENCHMARKS, open_benchmark
from eval.datasets.benchmarks import BadImage, open_image
from eval.datasets.description import Description
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


@pytest.mark.parametrize("name", ["voc", "voc20", "context", "context59", "coco_object"])
def test_an_image_that_is_listed_and_not_there_is_named(name, tmp_path):
    MINIATURES[name](tmp_path)
    benchmark = open_benchmark(name, tmp_path)
    image = benchmark.image_path(benchmark.keys[1])
    folder = image.parent
    image.unlink()
    with pytest.raises(UserError, match=f"1 of 2 images are missing, the first is {image}"):
        open_benchmark(name, tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"is incomplete: .* lacks (JPEGImages|val2017)"):
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


def sideways(path, orientation: int, image: Image.Image) -> None:
    """Saves an image as a camera that was held turned: its EXIF data says how to turn it back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, quality=100, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_mask_lies(orientation, tmp_path):
    MINIATURES["voc"](tmp_path)
    upright = Image.open(open_benchmark("voc", tmp_path).image_path(KEYS[0])).convert("RGB")
    back = {  # what a camera stores for each orientation
        1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
        6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270",
    }[orientation]  # fmt: skip
    stored = upright.transpose(getattr(Image.Transpose, back)) if back else upright
    path = tmp_path / f"VOCdevkit/VOC2012/JPEGImages/{KEYS[0]}.jpg"
    sideways(path, orientation, stored)
    benchmark = open_benchmark("voc", tmp_path)
    assert close(benchmark.image(KEYS[0]), upright)
    if orientation >= 5:  # a mask of the image as it is stored
        save_mask(benchmark.masks[KEYS[0]], np.zeros(stored.size[::-1]))
        assert close(open_benchmark("voc", tmp_path).image(KEYS[0]), stored)


def close(image: Image.Image, expected: Image.Image) -> bool:
    if image.size != expected.size:
        return False
    return np.abs(np.array(image).astype(int) - np.array(expected).astype(int)).mean() < 6


def test_coco_images_are_turned_as_their_records_say(tmp_path):
    MINIATURES["coco_object"](tmp_path)
    path = tmp_path / f"val2017/{KEYS[0]}.jpg"
    upright = Image.open(path).convert("RGB")
    sideways(path, 6, upright.transpose(Image.Transpose.ROTATE_90))
    assert close(open_benchmark("coco_object", tmp_path).image(KEYS[0]), upright)
    sideways(path, 6, upright)  # annotated as it is stored
    assert close(open_benchmark("coco_object", tmp_path).image(KEYS[0]), upright)


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_images_of_more_than_eight_bits_are_not_white(kind, tmp_path):
    MINIATURES["ade20k"](tmp_path)
    ramp = np.linspace(0, 60_000, SIZE[0]).astype(kind)
    image = Image.fromarray(np.broadcast_to(ramp, SIZE[::-1]).copy())
    image.save(tmp_path / "ramp.tif")
    grey = np.array(open_image(tmp_path / "ramp.tif"))[..., 0].astype(int)
    assert grey[0, 0] == 0
    assert 200 < grey[0, -1] <= 255
    assert abs(grey[0, SIZE[0] // 2] - grey[0, -1] / 2) < 10


def test_coco_stuff_of_the_older_numbering_is_named(tmp_path):
    coco_stuff(tmp_path, converted=False)
    masks = tmp_path / "coco_stuff164k/annotations/val2017"
    save_mask(masks / f"{KEYS[1]}.png", values(0, 1, 182))
    with pytest.raises(UserError, match=r"holds the value 182, .*older numbering, 1 to 182"):
        open_benchmark("coco_stuff", tmp_path)
    save_mask(masks / f"{KEYS[1]}.png", values(0, 1, 67))  # a dining table there, and no class here
    with pytest.raises(UserError, match=r"holds the value 67, .*older numbering"):
        open_benchmark("coco_stuff", tmp_path)


def test_ade20k_numbered_from_0_is_named(tmp_path):
    MINIATURES["ade20k"](tmp_path)
    mask = open_benchmark("ade20k", tmp_path).masks[KEYS[1]]
    save_mask(mask, values(255, 0, 149))
    with pytest.raises(UserError, match=r"holds the value 255, .*ADE20K's published masks \(1 to"):
        open_benchmark("ade20k", tmp_path)


@pytest.mark.parametrize("value", [19, 26, 33])
def test_cityscapes_published_values_under_the_name_of_converted_ones_are_named(value, tmp_path):
    cityscapes(tmp_path)
    save_mask(open_benchmark("cityscapes", tmp_path).masks[KEYS[0]], values(255, 7, value))
    with pytest.raises(UserError, match=rf"holds the value {value}, .*belong in \*_labelIds\.png"):
        open_benchmark("cityscapes", tmp_path)


@pytest.mark.parametrize("value", [11, 90, 182, 200, 254])
def test_a_value_that_is_no_class_of_published_maps_is_a_bad_image(value, tmp_path):
    coco_stuff(tmp_path, converted=False)
    benchmark = open_benchmark("coco_stuff", tmp_path)
    save_mask(benchmark.masks[KEYS[1]], values(255, value))
    with pytest.raises(BadImage, match=f"holds the value {value}, which is none of the 171"):
        benchmark.truth(KEYS[1])


@pytest.mark.parametrize("value", [34, 100, 254])
def test_a_value_that_is_no_label_of_cityscapes_is_a_bad_image(value, tmp_path):
    cityscapes(tmp_path, converted=False)
    benchmark = open_benchmark("cityscapes", tmp_path)
    save_mask(benchmark.masks[KEYS[1]], values(7, value))
    with pytest.raises(BadImage, match=f"holds the value {value}, which is none of the 19"):
        benchmark.truth(KEYS[1])


@pytest.mark.parametrize("name", ["voc20", "ade20k", "coco_stuff", "imagenet_s50"])
def test_a_mask_with_nothing_to_count_is_named(name, tmp_path):
    MINIATURES[name](tmp_path)
    benchmark = open_benchmark(name, tmp_path)
    key = benchmark.keys[0]
    ignored = benchmark.description.ignore[0]
    channels = [np.full(SIZE[::-1], one) for one in (ignored % 256, ignored // 256, 0)]
    mask = np.stack(channels, -1) if name.startswith("imagenet") else channels[0]
    save_mask(benchmark.masks[key], mask)
    with pytest.raises(BadImage, match="its mask has nothing to count: all of its pixels are ign"):
        benchmark.truth(key)


def test_a_list_that_names_an_image_twice_is_refused(tmp_path):
    MINIATURES["voc"](tmp_path)
    with open(tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "a") as file:
        file.write(KEYS[0])
    with pytest.raises(UserError, match=rf"has the key {KEYS[0]} for .*{KEYS[0]}.jpg twice"):
        open_benchmark("voc", tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_hidden_files_and_folders_are_no_images_and_no_masks(name, tmp_path):
    MINIATURES[name](tmp_path)
    keys = list(open_benchmark(name, tmp_path).keys)
    for path in [one for one in tmp_path.rglob("*") if one.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")  # as macOS leaves them
        converted = path.with_name(f"._{path.stem}_labelTrainIds.png")
        converted.write_bytes(b"")
        (path.parent / ".ipynb_checkpoints").mkdir(exist_ok=True)
        shutil.copy(path, path.parent / ".ipynb_checkpoints")
        shutil.copytree(path.parent, path.parent / "__MACOSX", dirs_exist_ok=True)
    benchmark = open_benchmark(name, tmp_path)
    assert list(benchmark.keys) == keys
    for key in keys:
        benchmark.truth(key)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"BM",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0" + b"\xff" * 40,
        b"P6 9",
        b"P6 99999 99999 255\n",  # more pixels than Pillow decodes
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",  # no decoder is installed for it
        b"<html>404 not found</html>",
    ],
)
def test_a_file_that_is_no_image_is_a_bad_image(content, tmp_path):
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(BadImage, match="it cannot be read") as caught:
        open_image(tmp_path / "image.png")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
