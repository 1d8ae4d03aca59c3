"""Benchmarks that are not there are named, each with its source."""

from __future__ import annotations

import json

from eval.datasets.benchmark_list import BENCHMARKS
from eval.datasets.referring import SPLITS
from tests.eval.datasets.miniatures import ade20k, coco_object
from tests.workflows.cc12m.findings import levels, only
from workflows.cc12m.checks.benchmarks import ALL, check_benchmarks, check_referring
from workflows.cc12m.checks.finding import FAILED, OK, WARNING


def test_benchmarks_that_are_not_there_are_named_each(tmp_path):
    found = list(check_benchmarks([ALL], tmp_path))
    assert [one.check for one in found] == list(BENCHMARKS)
    assert set(levels(found)) == {FAILED}
    assert all("get it from" in one.sentence for one in found)
    found = list(check_referring(tmp_path))
    assert [one.check for one in found] == list(SPLITS)
    assert set(levels(found)) == {FAILED}
    assert "there is no benchmark 'vco'" in only(check_benchmarks(["vco"], tmp_path), FAILED)


def test_a_benchmark_that_is_there_is_ok(tmp_path):
    ade20k(tmp_path)
    assert "2 images" in only(check_benchmarks(["ade20k"], tmp_path), OK)


def test_annotations_of_images_that_are_not_listed_are_a_warning(tmp_path):
    coco_object(tmp_path)
    file = tmp_path / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    content["images"].pop(0)
    file.write_text(json.dumps(content))
    found = list(check_benchmarks(["coco_object"], tmp_path))
    assert "1 images" in only(found, OK)
    assert "2 of the 4 annotations in" in only(found, WARNING)
