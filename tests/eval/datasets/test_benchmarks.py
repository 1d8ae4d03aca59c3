"""Each reader on its folder in small, and on what people get wrong about folders."""

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
    save_image,
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


def test_coco_instances_become_classes_and_the_smaller_one_is_seen(tmp_path):
    MINIATURES["coco_object"](tmp_path)
    truth = open_benchmark("coco_object", tmp_path).truth(KEYS[0])
    assert truth[8, 8] == 1
    assert truth[20, 8] == 80
    assert truth[8, 30] == 0
    assert (truth == 1).sum() == 64
    assert (truth == 80).sum() == 480 - 64


@pytest.mark.parametrize(("name", "draw"), [("coco_stuff", coco_stuff), ("cityscapes", cityscapes)])
def test_masks_as_published_give_the_classes_of_converted_ones(name, draw, tmp_path):
    draw(tmp_path / "raw", converted=False)
    draw(tmp_path / "converted", converted=True)
    raw, converted = (open_benchmark(name, tmp_path / kind) for kind in ("raw", "converted"))
    for key in raw.keys:
        np.testing.assert_array_equal(raw.truth(key), converted.truth(key))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_folder_itself_can_be_given(name, tmp_path):
    MINIATURES[name](tmp_path)
    inner = {
        "voc": "VOCdevkit/VOC2012", "voc20": "VOCdevkit/VOC2012", "context": "VOCdevkit/VOC2010",
        "context59": "VOCdevkit/VOC2010", "coco_stuff": "coco_stuff164k", "cityscapes": "cityscapes",
        "ade20k": "ADEChallengeData2016", "imagenet_s50": "ImageNetS50",
        "imagenet_s300": "ImageNetS300", "coco_object": ".",
    }[name]  # fmt: skip
    assert len(open_benchmark(name, tmp_path / inner)) == 2


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_folder_says_what_where_and_whence(name, tmp_path):
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
def test_a_folder_that_is_half_there_says_what_lacks(name, tmp_path):
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


def test_what_is_wrong_with_one_image_is_said_of_that_image(tmp_path):
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


def test_folders_of_other_classes_are_not_taken_for_imagenet_s(tmp_path):
    MINIATURES["imagenet_s50"](tmp_path)
    (tmp_path / "ImageNetS50/validation/n99999999").mkdir()
    with pytest.raises(UserError, match="has 51 folders, but ImageNetS50 has 50"):
        open_benchmark("imagenet_s50", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged, or is not a COCO annotation file"),
        ('{"images": []}', "is damaged, or is not a COCO annotation file"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "unicorn"}]}',
            "does not have COCO's 80 categories",
        ),
    ],
)
def test_a_damaged_annotation_file_is_one_sentence(content, message, tmp_path):
    MINIATURES["coco_object"](tmp_path)
    (tmp_path / "annotations/instances_val2017.json").write_text(content)
    with pytest.raises(UserError, match=message):
        open_benchmark("coco_object", tmp_path)


def test_an_unknown_benchmark_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no benchmark 'pets': choose from voc, "):
        open_benchmark("pets", tmp_path)


def test_coco_object_on_real_images(shared):
    from pycocotools.coco import COCO

    benchmark = open_benchmark("coco_object", shared / "coco_mini")
    assert len(benchmark) == 79
    coco = COCO(str(shared / "coco_mini/annotations/instances_val2017.json"))
    places = {one: place for place, one in enumerate(sorted(coco.cats), start=1)}
    for key in benchmark.keys:
        record, truth = benchmark.records[key], benchmark.truth(key)
        assert truth.shape == benchmark.image(key).size[::-1]
        instances = coco.loadAnns(coco.getAnnIds(imgIds=record["id"]))
        masks = [coco.annToMask(one).astype(bool) for one in instances]
        covered = np.zeros(truth.shape, bool)
        for mask in masks:
            covered |= mask
        np.testing.assert_array_equal(truth > 0, covered)
        if instances:
            smallest = min(range(len(masks)), key=lambda i: instances[i]["area"])
            expected = places[instances[smallest]["category_id"]]
            assert (truth[masks[smallest]] == expected).all()


def own_folder(root) -> None:
    """Somebody's two images with the classes cup and key, and with a background."""
    for seed, key in enumerate(KEYS):
        save_image(root / "images" / f"{key}.jpg", seed)
        save_mask(root / "masks" / f"{key}.png", values(0, 1 + seed, 9))
    (root / "benchmark.yaml").write_text(
        "title: Mine\nsource: my desk\nbackground: true\nthreshold: 0.4\n"
        "ignore: [9]\nfirst: 1\nclasses: [cup, key]\n"
    )


def test_a_folder_that_describes_itself_is_a_benchmark(tmp_path):
    own_folder(tmp_path / "mine")
    benchmark = open_benchmark(str(tmp_path / "mine"), tmp_path / "not used")
    assert (benchmark.description.name, benchmark.description.threshold) == ("mine", 0.4)
    assert benchmark.class_names == ("background", "cup", "key")
    assert benchmark.keys == list(KEYS)
    assert set(np.unique(benchmark.truth(KEYS[0]))) == {0, 1, IGNORE}
    assert set(np.unique(benchmark.truth(KEYS[1]))) == {0, 2, IGNORE}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: [", "is not YAML"),
        ("", "is not a valid benchmark description"),
        ("title: Mine\nclasses: [cup]\n", "is not a valid benchmark description: .*missing"),
        ("title: Mine\nsource: x\nbackground: true\nignore: []\nfirst: 1\nclasses: [cup, no]\n",
         "not all strings"),
        ("title: Mine\nsource: x\nbackground: true\nignore: []\nfirst: 70000\nclasses: [cup]\n",
         "is not a valid benchmark description"),
    ],
)  # fmt: skip
def test_a_description_that_is_wrong_is_one_sentence(text, message, tmp_path):
    own_folder(tmp_path)
    (tmp_path / "benchmark.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        open_benchmark(str(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_description_or_masks_says_so(tmp_path):
    own_folder(tmp_path)
    (tmp_path / "masks" / f"{KEYS[1]}.png").unlink()
    with pytest.raises(UserError, match="1 of 2 masks are missing"):
        open_benchmark(str(tmp_path), tmp_path)
    (tmp_path / "benchmark.yaml").unlink()
    with pytest.raises(UserError, match=r"holds no benchmark\.yaml"):
        open_benchmark(str(tmp_path), tmp_path)
    with pytest.raises(UserError, match="there is no benchmark 'nothing'"):
        open_benchmark("nothing", tmp_path)
