"""COCO's instance annotations become class masks."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from eval.datasets.benchmark_list import open_benchmark
from tests.eval.datasets.miniatures import KEYS, MINIATURES


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
