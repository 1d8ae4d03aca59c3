"""COCO's instance annotations become class masks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.errors import UserError
from eval.datasets.benchmark_list import open_benchmark
from eval.datasets.benchmarks import BadImage
from tests.eval.datasets.miniatures import KEYS, MINIATURES, coco_stuff, save_mask, values

ABSENT = object()


def put(record: dict, change: dict) -> None:
    """Changes fields of a record; those that become `ABSENT` are removed."""
    for name, value in change.items():
        if value is ABSENT:
            del record[name]
        else:
            record[name] = value


def edit(root, work) -> None:
    """Changes the content of a miniature's annotation file."""
    file = root / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    work(content)
    file.write_text(json.dumps(content))


def test_coco_instances_become_classes_and_the_smaller_one_is_on_top(tmp_path):
    MINIATURES["coco_object"](tmp_path)
    truth = open_benchmark("coco_object", tmp_path).truth(KEYS[0])
    assert truth[8, 8] == 1
    assert truth[20, 8] == 80
    assert truth[8, 30] == 0
    assert (truth == 1).sum() == 64
    assert (truth == 80).sum() == 480 - 64


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


def test_coco_object_agrees_with_pycocotools_on_real_images(shared):
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


SQUARE = [4, 4, 12, 4, 12, 12, 4, 12]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"segmentation": []}, "its segmentation is empty"),
        ({"segmentation": [[1, 2, 3, 4], SQUARE]}, "not a list of at least three points"),
        ({"segmentation": [SQUARE, [1, 2, 3, 4]]}, "not a list of at least three points"),
        ({"segmentation": [[*SQUARE, 5]]}, "not a list of at least three points"),
        ({"segmentation": [SQUARE, None]}, "not a list of at least three points"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "not a list of at least three points"),
        ({"segmentation": [[*SQUARE[:-1], "9"]]}, "the coordinate '9'"),
        ({"segmentation": [[*SQUARE[:-1], float("nan")]]}, "the coordinate nan"),
        ({"segmentation": [[*SQUARE[:-1], 1e12]]}, "the coordinate 1000000000000"),
        ({"segmentation": None}, "it has no segmentation"),
        ({"segmentation": "square"}, "it has no segmentation"),
        ({"segmentation": {"size": [24, 40]}}, "it has no segmentation"),
        ({"segmentation": {"size": [40, 24], "counts": [0, 960]}}, r"pixels instead of \[24, 40\]"),
        ({"segmentation": {"counts": [0, 960]}}, "it is for None pixels"),
        ({"segmentation": {"size": [24, 40], "counts": [0, 9999]}}, "run lengths are not those"),
        ({"segmentation": {"size": [24, 40], "counts": [962, -2]}}, "run lengths are not those"),
        ({"segmentation": {"size": [24, 40], "counts": [9]}}, "run lengths are not those"),
        ({"segmentation": {"size": [24, 40], "counts": []}}, "run lengths are not those"),
        ({"segmentation": {"size": [24, 40], "counts": ""}}, "run lengths are not those"),
        ({"segmentation": {"size": [24, 40], "counts": [0.5, 959.5]}}, "not whole numbers"),
        ({"segmentation": {"size": [24, 40], "counts": "~~~~"}}, "run lengths are not those"),
        ({"segmentation": {"size": [24, 40], "counts": None}}, "its run lengths are None"),
        ({"segmentation": ABSENT}, "it has no segmentation"),
        ({"area": ABSENT}, "its area is None"),
        ({"area": "big"}, "its area is 'big'"),
        ({"area": float("nan")}, "its area is nan"),
        ({"category_id": 85}, "the category 85 is none of COCO's 80"),
        ({"category_id": ABSENT}, "the category None is none"),
        ({"category_id": [1]}, "the category .1. is none"),
    ],
    ids=str,
)
def test_a_broken_annotation_is_one_bad_image(change, why, tmp_path):
    MINIATURES["coco_object"](tmp_path)
    edit(tmp_path, lambda content: put(content["annotations"][0], change))
    benchmark = open_benchmark("coco_object", tmp_path)
    with pytest.raises(
        BadImage, match=rf"its mask is damaged \(annotation without id: .*({why})"
    ) as caught:
        benchmark.truth(KEYS[0])
    assert "\n" not in str(caught.value)
    assert (benchmark.truth(KEYS[1]) == 80).any()


@pytest.mark.parametrize("value", [ABSENT, 0, -3, "24", 24.5, 10**9, None], ids=str)
def test_an_image_without_height_is_one_bad_image(value, tmp_path):
    MINIATURES["coco_object"](tmp_path)
    edit(tmp_path, lambda content: put(content["images"][0], {"height": value}))
    benchmark = open_benchmark("coco_object", tmp_path)
    with pytest.raises(BadImage, match="its record has no height and width"):
        benchmark.truth(KEYS[0])


def test_an_annotation_file_with_every_broken_shape_ends_with_the_bad_images(
    tmp_path, run_folder, capsys
):
    from eval.segment import main

    MINIATURES["coco_object"](tmp_path)
    edit(tmp_path, lambda content: put(content["annotations"][0], {"segmentation": []}))
    flags = ["--run", str(run_folder), "--benchmarks", "coco_object", "--data", str(tmp_path)]
    flags += ["--size", "32", "--window", "32", "--stride", "16", "--out", str(tmp_path / "out")]
    assert main([*flags, "--cache", str(tmp_path / "cache")]) == 2
    printed = capsys.readouterr()
    assert "1 images of COCO-Object: mIoU" in printed.out
    assert f"1 of 2 images of COCO-Object could not be scored: {KEYS[0]} (" in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (
            lambda c: c["images"].append(dict(c["images"][0])),
            "has 2 images of id 0: ids are unique",
        ),
        (
            lambda c: c["images"].append(c["images"][0] | {"id": 7}),
            "has the key a_000000 for a_000000.jpg twice",
        ),
        (lambda c: put(c["images"][0], {"file_name": ABSENT}), "image in place 0 has no file_name"),
        (lambda c: put(c["images"][1], {"file_name": ""}), "image in place 1 has no file_name"),
        (lambda c: put(c["images"][1], {"file_name": 7}), "image in place 1 has no file_name"),
        (lambda c: put(c["images"][1], {"id": None}), "image in place 1 has no id"),
        (lambda c: put(c["images"][0], {"id": [1]}), "image in place 0 has no id"),
        (lambda c: c["images"].append([1]), "image in place 2 has no id"),
        (lambda c: put(c["categories"][3], {"id": 1}), "ids or names are not unique"),
        (lambda c: put(c["categories"][3], {"id": [1]}), "is damaged, or is not a COCO"),
        (
            lambda c: put(c["categories"][3], {"name": "person"}),
            "80 categories: motorcycle",
        ),
        (lambda c: c["categories"].append({"id": 200, "name": "person"}), "not unique"),
        (lambda c: c["categories"].pop(0), "COCO's 80 categories: person"),
        (lambda c: put(c["annotations"][0], {"image_id": ABSENT}), "in place 0 names no image"),
        (lambda c: c["annotations"].append(None), "in place 4 names no image"),
        (lambda c: put(c, {"annotations": {}}), "its annotations are not a list"),
        (lambda c: put(c, {"images": None}), "its images are not a list"),
        (lambda c: put(c, {"categories": ["cat"]}), "is damaged, or is not a COCO"),
    ],
    ids=str,
)
def test_lists_that_do_not_tell_images_apart_are_refused(work, message, tmp_path):
    MINIATURES["coco_object"](tmp_path)
    edit(tmp_path, work)
    with pytest.raises(UserError, match=message) as caught:
        open_benchmark("coco_object", tmp_path)
    assert "\n" not in str(caught.value)


def number_again(content: dict, new) -> None:
    """Gives every category another id, and annotations with it."""
    for category in content["categories"]:
        category["id"] = new(category["id"])
    for annotation in content["annotations"]:
        annotation["category_id"] = new(annotation["category_id"])


@pytest.mark.parametrize(
    "new", [lambda i: i, lambda i: i - 1, lambda i: 1000 - 7 * i, str, lambda i: f"c{i}"]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_categories_are_known_by_name_whatever_their_ids(new, reverse, tmp_path):
    MINIATURES["coco_object"](tmp_path)
    truths = [open_benchmark("coco_object", tmp_path).truth(key) for key in KEYS]
    edit(tmp_path, lambda content: number_again(content, new))
    if reverse:
        edit(tmp_path, lambda content: content["categories"].reverse())
    again = open_benchmark("coco_object", tmp_path)
    for key, truth in zip(KEYS, truths, strict=True):
        np.testing.assert_array_equal(again.truth(key), truth)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (str, r"whose ids are not of one type: an annotation is of the image '0', .* are 0, 1"),
        (lambda i: i + 100, "4 of the 4 annotations in .* of images that it does not list, .* 100"),
        (lambda i: f"{i}.jpg", "4 of the 4 annotations in .* does not list, .* '0.jpg'"),
    ],
)
def test_annotations_of_no_image_would_make_all_background_and_are_refused(new, message, tmp_path):
    MINIATURES["coco_object"](tmp_path)

    def work(content: dict) -> None:
        for one in content["annotations"]:
            one["image_id"] = new(one["image_id"])

    edit(tmp_path, work)
    with pytest.raises(UserError, match=message):
        open_benchmark("coco_object", tmp_path)


def test_annotations_of_images_that_are_not_listed_are_counted_in_a_note(
    tmp_path, run_folder, capsys
):
    from eval.segment import main

    MINIATURES["coco_object"](tmp_path)
    edit(tmp_path, lambda content: content["images"].pop(0))
    flags = ["--run", str(run_folder), "--benchmarks", "coco_object", "--data", str(tmp_path)]
    flags += ["--size", "32", "--window", "32", "--stride", "16", "--out", str(tmp_path / "out")]
    assert main([*flags, "--cache", str(tmp_path / "cache")]) == 0
    printed = capsys.readouterr()
    assert "1 images of COCO-Object: mIoU" in printed.out
    [note] = [line for line in printed.err.splitlines() if line.startswith("note: ")]
    assert "2 of the 4 annotations in" in note
    assert note.endswith("of images that it does not list, the first of the image 0")


def test_images_of_one_name_in_two_folders_are_two_images(tmp_path):
    MINIATURES["coco_object"](tmp_path)

    def work(content: dict) -> None:
        for one, folder in zip(content["images"], ("one", "two"), strict=True):
            (tmp_path / "val2017" / folder).mkdir()
            here = tmp_path / "val2017" / one["file_name"]
            here.rename(tmp_path / "val2017" / folder / "a.b.jpg")
            one["file_name"] = f"{folder}/a.b.jpg"

    edit(tmp_path, work)
    benchmark = open_benchmark("coco_object", tmp_path)
    assert benchmark.keys == ["one/a.b", "two/a.b"]
    assert [benchmark.image(key).size for key in benchmark.keys] == [(40, 24)] * 2


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize("form", ["list", "text", "polygon", "parts"])
def test_an_instance_has_its_pixels_in_every_form(form, crowd, tmp_path):
    from pycocotools import mask

    MINIATURES["coco_object"](tmp_path)
    shape = np.zeros((24, 40), np.uint8)
    shape[4:12, 4:12] = 1
    runs = mask.encode(np.asfortranarray(shape))["counts"].decode()
    lengths = np.diff(np.flatnonzero(np.diff(shape.T.ravel(), prepend=2, append=2))).tolist()
    segmentation = {
        "list": {"size": [24, 40], "counts": lengths},
        "text": {"size": [24, 40], "counts": runs},
        "polygon": [SQUARE],
        "parts": [[4, 4, 8, 4, 8, 12, 4, 12], [8.0, 4.0, 12.0, 4.0, 12.0, 12.0, 8.0, 12.0]],
    }[form]
    change = {"segmentation": segmentation, "iscrowd": crowd}
    edit(tmp_path, lambda content: put(content["annotations"][0], change))
    truth = open_benchmark("coco_object", tmp_path).truth(KEYS[0])
    np.testing.assert_array_equal(truth == 1, shape == 1)


@pytest.mark.parametrize("seed", range(4))
def test_compressed_run_lengths_are_those_of_pycocotools(seed):
    from pycocotools import mask

    from eval.datasets.coco_object import instance_mask

    random = np.random.default_rng(seed)
    truth = np.kron(random.integers(0, 2, (6, 5)), np.ones((7 * seed + 1, 11), int)).astype(
        np.uint8
    )
    runs = mask.encode(np.asfortranarray(truth))
    shape = {"size": list(truth.shape), "counts": runs["counts"].decode()}
    found = instance_mask({"segmentation": shape}, *truth.shape)
    np.testing.assert_array_equal(found, truth.astype(bool))


@pytest.mark.parametrize("ending", ["_instanceTrainIds.png", "_labelTrainIds.png", ".png"])
def test_coco_stuffs_maps_come_first_as_the_authors_take_them(ending, tmp_path):
    coco_stuff(tmp_path, converted=False)
    MINIATURES["coco_object"](tmp_path / "coco")
    stripes = {  # a person, a toothbrush, a banner, which is stuff, and unlabelled pixels
        "_instanceTrainIds.png": (1, 80, 0, 0), "_labelTrainIds.png": (0, 79, 80, 255),
        ".png": (0, 89, 91, 255),
    }[ending]  # fmt: skip
    masks = tmp_path / "coco_stuff164k/annotations/val2017"
    for key in KEYS:
        (masks / f"{key}.png").unlink()
        save_mask(masks / f"{key}{ending}", values(*stripes))
    benchmark = open_benchmark("coco_object", tmp_path)
    assert benchmark.truth_from == "COCO-Stuff's maps"
    for key in KEYS:
        np.testing.assert_array_equal(benchmark.truth(key), values(1, 80, 0, 0))
    save_mask(benchmark.masks[KEYS[0]], values(0, 254))
    with pytest.raises(BadImage, match="holds the value 254, which is none of the 80"):
        benchmark.truth(KEYS[0])
    assert open_benchmark("coco_object", tmp_path / "coco").truth_from == "instances"


def test_older_maps_are_refused_for_objects_too(tmp_path):
    coco_stuff(tmp_path, converted=False)
    mask = tmp_path / f"coco_stuff164k/annotations/val2017/{KEYS[0]}.png"
    save_mask(mask, values(0, 1, 182))
    with pytest.raises(UserError, match="older numbering"):
        open_benchmark("coco_object", tmp_path)
