"""Thresholds of the background by the command: which act, which are refused, and none for words."""

from __future__ import annotations

import json

import pytest

from eval.segment import main
from tests.eval.datasets.miniatures import KEYS, MINIATURES, save_image, save_mask, values

SMALL = ["--size", "32", "--window", "32", "--stride", "16", "--overlays", "1"]


@pytest.mark.parametrize(
    ("benchmark", "flags", "message"),
    [
        ("voc", ["--protocol", "paper", "--threshold", "0.05"], "softmax over 20 names"),
        ("voc", ["--probability", "softmax", "--threshold", "0.04"], "never below 1/20 = 0.05"),
        ("voc", ["--protocol", "paper", "--threshold", "0"], "softmax over 20 names"),
        ("voc", ["--threshold", "0"], "no probability is below the threshold 0"),
        ("ONE", ["--protocol", "paper"], "softmax over 1 names is never below 1/1 = 1"),
        (
            "ONE",
            ["--protocol", "release-dev", "--threshold", "0.99"],
            "give a higher --threshold, or",
        ),
        ("NONE", ["--protocol", "paper"], "the threshold is 0"),
    ],
)
def test_a_threshold_that_cannot_act_is_refused(
    benchmark, flags, message, tmp_path, clip_folder, capsys
):
    MINIATURES["voc"](tmp_path)
    own = tmp_path / "own"
    for seed, key in enumerate(KEYS):
        save_image(own / f"images/{key}.jpg", seed)
        save_mask(own / f"masks/{key}.png", values(0, 1))
    names, threshold = ("cup, key", "") if benchmark == "NONE" else ("cup", "threshold: 0.9\n")
    (own / "benchmark.yaml").write_text(
        f"title: Mine\nsource: x\nbackground: true\nignore: []\nfirst: 1\nclasses: [{names}]\n{threshold}"
    )
    common = ["--run", "clip", "--model", str(clip_folder), "--data", str(tmp_path), *SMALL]
    common += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    name = benchmark if benchmark == "voc" else str(own)
    assert main([*common, "--benchmarks", name, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "out").exists()
    assert main([*common, "--benchmarks", name]) == 0  # the release's sigmoid may stay below


@pytest.mark.parametrize(("flags", "expected"), [([], 0.3), (["--threshold", "0.6"], 0.6)])
def test_a_users_threshold_is_for_any_form_of_eq_8(flags, expected, tmp_path, clip_folder):
    own = tmp_path / "own"
    for seed, key in enumerate(KEYS):
        save_image(own / f"images/{key}.jpg", seed)
        save_mask(own / f"masks/{key}.png", values(0, 1))
    (own / "benchmark.yaml").write_text(
        "title: Mine\nsource: x\nbackground: true\nignore: []\nfirst: 1\nclasses: [cup]\nthreshold: 0.3\n"
    )
    common = ["--run", "clip", "--model", str(clip_folder), "--benchmarks", str(own), *SMALL]
    common += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), *flags]
    assert main(common) == 0
    result = json.loads((tmp_path / "out/clip/own/result.json").read_text())
    assert result["settings"]["inference"]["threshold"] == expected


def test_words_for_the_background_need_no_threshold(tmp_path, clip_folder):
    MINIATURES["voc"](tmp_path)
    common = ["--run", "clip", "--model", str(clip_folder), "--data", str(tmp_path), *SMALL]
    common += ["--benchmarks", "voc", "--out", str(tmp_path / "out"), "--background", "words"]
    assert main([*common, "--protocol", "paper", "--cache", str(tmp_path / "cache")]) == 0
    result = json.loads((tmp_path / "out/clip/voc/result.json").read_text())
    assert result["settings"]["inference"]["threshold"] is None
    assert result["settings"]["inference"]["background"] == "words"
