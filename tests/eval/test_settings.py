"""Settings of segment.py, refer.py and show.py are checked, and name their runs."""

from __future__ import annotations

import pytest

from common.errors import UserError
from eval.inference.settings import SIGMOID, Inference
from eval.settings import ReferSettings, SegmentSettings, ShowSettings, parse_flags


def segment(**changes) -> SegmentSettings:
    return SegmentSettings(**({"runs": ("clip",), "benchmarks": ("voc",)} | changes))


def test_the_label_is_the_name_or_the_folder_or_the_baseline():
    settings = segment(runs=("clip", "data/runs/tagalign/"))
    assert [settings.label(run) for run in settings.runs] == ["clip", "tagalign"]
    assert segment(name="mine").label("clip") == "mine"
    assert ReferSettings(run="x/one", benchmarks=("refcoco_val",)).label == "one"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ()}, r"no run named \(--run\)"),
        ({"runs": ("a/tagalign", "b/tagalign")}, "two runs would be called tagalign"),
        ({"runs": ("clip", "surgery"), "name": "x"}, "--name is the name of one run's folder"),
        ({"benchmarks": ()}, r"no benchmark named \(--benchmarks\): choose from voc, "),
        ({"workers": 0}, "--workers is at least 1, not 0"),
        ({"overlays": -1}, "--overlays is at least 0, not -1"),
    ],
)
def test_invalid_settings_of_segment_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        segment(**changes)


def test_two_folders_of_one_name_are_refused(tmp_path):
    for place in ("a/mine", "b/mine", "voc"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "benchmark.yaml").touch()
    with pytest.raises(UserError, match="two benchmarks would be called mine: score them one by"):
        segment(benchmarks=(str(tmp_path / "a/mine"), f"{tmp_path}/b/mine/"))
    with pytest.raises(UserError, match="two benchmarks would be called voc"):
        segment(benchmarks=("voc", str(tmp_path / "voc")))


@pytest.mark.parametrize("missing", ["runs", "image", "texts"])
def test_show_names_what_is_missing(missing, tmp_path):
    (tmp_path / "cat.jpg").touch()
    values = {"runs": ("clip",), "image": str(tmp_path / "cat.jpg"), "texts": ("cat",)}
    ShowSettings(**values)
    values[missing] = type(values[missing])()
    with pytest.raises(UserError, match=rf"no {missing.removesuffix('s')} named \(--"):
        ShowSettings(**values)


def test_flags_fill_settings_and_inference_whose_defaults_a_command_may_change():
    arguments = ["--run", "clip", "--benchmarks", "refcoco_val, refcocog_val", "--stride", "112"]
    settings = parse_flags(ReferSettings, "help", arguments, {"probability": SIGMOID})
    assert settings == ReferSettings(
        run="clip",
        benchmarks=("refcoco_val", "refcocog_val"),
        inference=Inference(probability=SIGMOID, stride=112),
    )
