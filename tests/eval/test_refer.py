"""The command that scores referring segmentation, on expressions made from COCO's instances."""

from __future__ import annotations

import json
import pickle

import pytest

from eval.refer import main
from tests.eval.datasets.miniatures import make_refer

SMALL = ["--size", "32", "--window", "32", "--stride", "16"]


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
    # a second run reads the counts and encodes nothing
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


def test_an_expression_is_not_wrapped_in_a_prompt(small, run_folder, tmp_path, monkeypatch, capsys):
    from training.dense import Dense

    asked = []
    encode = Dense.encode_texts
    monkeypatch.setattr(
        Dense, "encode_texts", lambda self, texts: asked.extend(texts) or encode(self, texts)
    )
    flags = ["--run", str(run_folder), "--benchmarks", "refcoco_val", "--data", str(small), *SMALL]
    for protocol in ("release", "paper"):
        out = ["--out", str(tmp_path / protocol), "--cache", str(tmp_path / f"c-{protocol}")]
        assert main([*flags, "--protocol", protocol, *out]) == 0
        assert f"protocol {protocol}, but for " in capsys.readouterr().out
    assert asked
    assert all(text.startswith(("the ", "that ")) for text in asked)
    asked.clear()
    wrapped = ["--templates", "photo", "--out", str(tmp_path / "w"), "--cache", str(tmp_path / "w")]
    assert main([*flags, *wrapped]) == 0
    assert all(text.startswith("a photo of a th") for text in asked)


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
