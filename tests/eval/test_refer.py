"""Referring segmentation on expressions made from COCO's instances, and its files' dangers."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from eval.datasets.referring import PlainUnpickler, ReferringSet
from eval.inference.settings import SIGMOID, Inference
from eval.refer import main
from eval.referring_scores import _count, figures, mask_of
from tests.eval.datasets.miniatures import coco_object

SMALL = ["--size", "32", "--window", "32", "--stride", "16"]


def make_refer(root: Path, instances: dict, images: Path, most: int = 40) -> Path:
    """A folder in the layout of REFER whose expressions are categories with their number."""
    names = {one["id"]: one["name"] for one in instances["categories"]}
    (root / "train2014").mkdir(parents=True)
    for image in instances["images"]:
        shutil.copy(images / image["file_name"], root / "train2014")
    refs = []
    for number, one in enumerate(instances["annotations"][:most]):
        one.setdefault("id", number + 1)
        sentences = [
            {"sent_id": 2 * number + i, "sent": f"{word} {names[one['category_id']]}"}
            for i, word in enumerate(("the", "that"))
        ]
        split = "val" if number % 4 else "testA"
        refs.append({"ann_id": one["id"], "split": split, "sentences": sentences})
    for name, file in (("refcoco", "refs(unc).p"), ("refcoco+", "refs(unc).p"),
                       ("refcocog", "refs(umd).p")):  # fmt: skip
        (root / name).mkdir()
        (root / name / "instances.json").write_text(json.dumps(instances))
        (root / name / file).write_bytes(pickle.dumps(refs, protocol=2))
    return root


@pytest.fixture
def small(tmp_path) -> Path:
    coco_object(tmp_path / "coco")
    file = tmp_path / "coco/annotations/instances_val2017.json"
    return make_refer(tmp_path / "refer", json.loads(file.read_text()), tmp_path / "coco/val2017")


class Oracle:
    """Gives each expression its own mask, or all that is not it."""

    inference = Inference(probability=SIGMOID)

    def __init__(self, data, group, inverted=False):
        masks = np.stack([data.mask(one) for one in group]).astype(np.float32)
        self.masks = 1 - masks if inverted else masks

    def probabilities(self, image):
        return self.masks


def judged(data, inverted: bool):
    counts, bad = [], []
    for image, group in data.expressions.items():
        oracle = Oracle(data, group, inverted)
        counts += [found for _, found in _count(oracle, "absolute", data, image, group, bad)]
    return figures(np.array(counts), bad, False)


@pytest.mark.parametrize("name", ["refcoco_val", "refcoco+_testA", "refcocog_val"])
def test_an_oracle_scores_100_and_its_opposite_0(name, small):
    data = ReferringSet(name, small)
    assert len(data) == (2 if name.endswith("testA") else 6)
    perfect, wrong = judged(data, False), judged(data, True)
    assert perfect.mean == perfect.overall == 1
    assert wrong.mean == wrong.overall == 0


def test_mean_and_overall_iou_weigh_expressions_and_pixels():
    counts = np.array([[[50, 0], [10, 10]], [[0, 0], [0, 90]]])
    result = figures(counts, [], False)
    assert result.mean == pytest.approx((10 / 20 + 1) / 2)
    assert result.overall == pytest.approx(100 / 110)
    assert figures(counts[:0], [], False).to_json()["mean_iou"] is None


def test_the_command_scores_expressions_of_real_instances(
    shared, tmp_path, run_folder, capsys, monkeypatch
):
    coco = shared / "coco_mini"
    instances = json.loads((coco / "annotations/instances_val2017.json").read_text())
    refer = make_refer(tmp_path / "refer", instances, coco / "val2017", most=24)
    common = ["--run", str(run_folder), "--benchmarks", "refcoco_val,refcocog_val", "--data"]
    common += [str(refer), *SMALL, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "c")]
    assert main(common) == 0
    first = capsys.readouterr().out
    assert "| run, mean IoU |" in first
    assert "| run, overall IoU |" in first
    result = json.loads((tmp_path / "out/run/refcoco_val/result.json").read_text())
    assert result["expressions"] == 36
    assert 0 <= result["mean_iou"] <= 1
    assert result["inference"]["probability"] == "sigmoid"
    # again: all is there, nothing is encoded
    monkeypatch.setattr("eval.referring_scores.Segmenter", None)
    assert main(common) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(("rule", "between"), [("absolute", "0.08"), ("relative", "0.5")])
def test_masks_are_where_the_rule_reaches_the_threshold(rule, between, small, run_folder, tmp_path):
    def share(threshold: str) -> float:
        code = main(
            ["--run", str(run_folder), "--benchmarks", "refcoco_val", "--data", str(small), *SMALL]
            + ["--threshold", threshold, "--rule", rule, "--out", str(tmp_path / threshold)]
            + ["--cache", str(tmp_path / "c")]
        )
        assert code == 0
        [file] = (tmp_path / threshold).glob("run/refcoco_val/*.jsonl")
        entries = [json.loads(line)["counts"] for line in file.read_text().splitlines()]
        given = sum(n for counts in entries for _, guess, n in counts if guess == 1)
        return given / sum(n for counts in entries for _, _, n in counts)

    assert share("0") == 1
    assert share("1") < 0.02  # relative: the most similar pixel of each image
    assert 0 < share(between) < 1


def test_a_relative_mask_does_not_know_how_similar_an_image_is_on_the_whole():
    class Fixed:
        inference = Inference(probability=SIGMOID)

        def similarities(self, picture):
            return np.array([[[0.1, 0.2], [0.3, 0.2]], [[5.0, 5.0], [7.0, 6.0]]])

    masks = mask_of(Fixed(), "relative", None)
    assert masks.tolist() == [[[False, True], [True, True]], [[False, False], [True, True]]]


def test_a_pickle_that_wants_to_run_something_is_refused_and_does_not_run(small):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(small / "was_run"),)

    (small / "refcoco/refs(unc).p").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(UserError, match=r"it loads posix.mkdir, and only plain data is allowed"):
        ReferringSet("refcoco_val", small)
    assert not (small / "was_run").exists()


def test_pickles_of_python_2_are_read(tmp_path):
    path = tmp_path / "refs.p"
    path.write_bytes(b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xe9'\np3\nsS'ann_id'\np4\nI7\nsa.")
    with open(path, "rb") as file:
        assert PlainUnpickler(file, encoding="latin1").load() == [{"sent": "café", "ann_id": 7}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a pickle", "is damaged, or is not a list of expressions"),
        (b"", "is damaged, or is not a list of expressions"),
        (pickle.dumps({"a": 1}), "holds a dict, not a list of expressions"),
        (pickle.dumps([{"split": "val"}]), "instances.json beside it disagree"),
        (
            pickle.dumps([{"split": "val", "ann_id": 99, "sentences": []}]),
            "instances.json beside it disagree",
        ),
        (pickle.dumps([]), "has no expression"),
    ],
)
def test_damaged_expressions_are_one_sentence(content, message, small, run_folder, capsys):
    (small / "refcoco/refs(unc).p").write_bytes(content)
    flags = ["--run", str(run_folder), "--benchmarks", "refcoco_val", "--data", str(small)]
    assert main(flags) == 2
    error = capsys.readouterr().err.splitlines()
    assert len([line for line in error if line.startswith("error: ")]) == 1
    assert message in error[-1]


def test_what_lacks_is_named_with_where_to_get_it(small, tmp_path):
    with pytest.raises(UserError, match=r"there is no folder"):
        ReferringSet("refcoco_val", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"refcoco_val lacks .*refs\(unc\).p.*; get it from https"):
        ReferringSet("refcoco_val", tmp_path)
    next((small / "train2014").iterdir()).unlink()
    with pytest.raises(UserError, match=r"is incomplete: 1 of 2 images are missing"):
        ReferringSet("refcoco_val", small)
    shutil.rmtree(small / "train2014")
    with pytest.raises(UserError, match=r"lacks COCO's train2014 images"):
        ReferringSet("refcoco_val", small)
    with pytest.raises(UserError, match=r"there is no benchmark 'refcoco'"):
        ReferringSet("refcoco", small)


def test_a_damaged_image_fails_the_command_at_its_end(small, run_folder, tmp_path, capsys):
    image = sorted((small / "train2014").iterdir())[0]
    image.write_bytes(b"no jpeg")
    code = main(
        ["--run", str(run_folder), "--benchmarks", "refcoco_val", "--data", str(small), *SMALL]
        + ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "c")]
    )
    printed = capsys.readouterr()
    assert code == 2
    assert "| run, mean IoU |" in printed.out
    assert "2 expressions could not be scored and are left out of the figures" in printed.err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--probability", "softmax"], "--probability must be sigmoid"),
        (["--rule", "best"], "--rule is one of absolute, relative, not 'best'"),
        (["--pamr"], "--pamr is for eval/segment.py only"),
        (["--limit", "0"], "--limit is at least 1"),
        (["--benchmarks", "voc"], "there is no benchmark 'voc'"),
    ],
)
def test_mistakes_are_one_sentence(extra, message, small, run_folder, capsys):
    flags = ["--run", str(run_folder), "--benchmarks", "refcoco_val", "--data", str(small), *extra]
    assert main(flags) == 2
    assert message in capsys.readouterr().err
