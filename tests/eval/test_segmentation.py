"""From a benchmark's folder to its figures: true masks, resuming, ranks, damage, the command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.storage import Folder
from eval.confusion import IGNORE
from eval.datasets.benchmark_list import BENCHMARKS, open_benchmark
from eval.inference.protocols import describe
from eval.inference.settings import Inference
from eval.paper import paper_rows
from eval.pictures import draw_overlays
from eval.segment import main, parse
from eval.segmentation import complaint, score
from eval.segmentation_report import Result, class_table, markdown
from eval.settings import SegmentSettings
from tests.eval.datasets.miniatures import KEYS, MINIATURES, save_image, save_mask, values


def result_of(benchmark: str, miou: float, **changes) -> Result:
    """A result of a run called `ours`, of which only the table's cells matter."""
    values = {
        "benchmark": benchmark, "title": benchmark, "run": "ours", "settings": {}, "images": 1,
        "miou": miou, "pixel_accuracy": miou, "classes": [], "bad": [], "partial": False,
    }  # fmt: skip
    return Result(**(values | changes))


SMALL = ["--size", "32", "--window", "32", "--stride", "16", "--overlays", "1"]


def rows_of(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith("|")]


class Oracle:
    """Predicts the true class of every pixel, plus `shift`."""

    def __init__(self, benchmark, shift: int = 0):
        self.truths = {
            np.array(benchmark.image(key)).tobytes(): benchmark.truth(key) for key in benchmark.keys
        }
        self.shift, self.count, self.asked = shift, len(benchmark.class_names), 0

    def label_maps(self, images):
        self.asked += len(images)
        found = [self.truths[np.array(image).tobytes()] for image in images]
        return [np.where(one == IGNORE, 0, (one + self.shift) % self.count) for one in found]


def settings(name: str, **changes) -> SegmentSettings:
    return SegmentSettings(**({"runs": ("oracle",), "benchmarks": (name,), "data": "."} | changes))


def run(labeller, benchmark, folder, made_by=None, **changes):
    about = settings(benchmark.description.name, **changes)
    return score(labeller, benchmark, Folder(folder), made_by or {"model": "x"}, about, "oracle")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_perfect_model_scores_100_and_a_permuted_one_0(name, tmp_path):
    MINIATURES[name](tmp_path / "data")
    benchmark = open_benchmark(name, tmp_path / "data")
    perfect = run(Oracle(benchmark), benchmark, tmp_path / "a")
    assert perfect.miou == perfect.pixel_accuracy == 1
    assert perfect.images == 2
    permuted = run(Oracle(benchmark, shift=1), benchmark, tmp_path / "b")
    assert permuted.miou == permuted.pixel_accuracy == 0


def test_a_resumed_run_scores_only_the_remaining_images_and_has_the_same_figures(tmp_path):
    MINIATURES["voc"](tmp_path / "data")
    benchmark = open_benchmark("voc", tmp_path / "data")
    whole = run(Oracle(benchmark, 0), benchmark, tmp_path / "whole")
    first = run(Oracle(benchmark), benchmark, tmp_path / "out", limit=1)
    assert first.partial
    assert first.images == 1
    [lines] = (tmp_path / "out").glob("*.jsonl")
    with open(lines, "a") as file:  # an incomplete line, as a kill leaves it
        file.write('{"image": "b_0000')
    oracle = Oracle(benchmark)
    second = run(oracle, benchmark, tmp_path / "out")
    assert oracle.asked == 1
    assert second.classes == whole.classes
    assert second.images == 2
    third = Oracle(benchmark)
    assert run(third, benchmark, tmp_path / "out").classes == whole.classes
    assert third.asked == 0


def test_results_of_other_settings_are_not_mixed(tmp_path):
    MINIATURES["voc"](tmp_path / "data")
    benchmark = open_benchmark("voc", tmp_path / "data")
    run(Oracle(benchmark, 1), benchmark, tmp_path / "out", {"model": "x", "scale": 30})
    with pytest.raises(UserError, match=r"holds results with another scale \(30, now 10\)"):
        run(Oracle(benchmark), benchmark, tmp_path / "out", {"model": "x", "scale": 10})
    result = run(
        Oracle(benchmark), benchmark, tmp_path / "out", {"model": "x", "scale": 10}, overwrite=True
    )
    assert result.miou == 1


def test_counts_of_another_folder_of_the_same_name_are_not_taken(tmp_path, run_folder, capsys):
    for number, place in enumerate(("a/mine", "b/mine")):
        folder = tmp_path / place
        save_image(folder / "images/x.jpg", 0)
        save_mask(folder / "masks/x.png", values(*range(1 + number)))
        (folder / "benchmark.yaml").write_text(
            "title: Mine\nsource: x\nbackground: true\nthreshold: 0.4\nignore: []\nfirst: 1\n"
            "classes: [cup]\n"
        )
    common = ["--run", str(run_folder), *SMALL, "--out", str(tmp_path / "out")]
    common += ["--cache", str(tmp_path / "cache"), "--benchmarks"]
    assert main([*common, str(tmp_path / "a/mine")]) == 0
    assert main([*common, str(tmp_path / "a/mine")]) == 0
    assert main([*common, str(tmp_path / "b/mine")]) == 2
    assert "holds results with another set of masks (" in capsys.readouterr().err


def test_damaged_images_are_named_at_the_end_and_retried_by_the_next_run(tmp_path):
    MINIATURES["voc"](tmp_path / "data")
    benchmark = open_benchmark("voc", tmp_path / "data")
    oracle = Oracle(benchmark)
    path = benchmark.image_path(KEYS[0])
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    result = run(oracle, benchmark, tmp_path / "out")
    assert result.images == 1
    assert result.miou == 1
    [bad] = result.bad
    assert bad["image"] == KEYS[0]
    sentence = complaint([result], "OUT")
    assert "\n" not in sentence
    assert sentence.startswith(
        "1 of 2 images of PASCAL VOC could not be scored: a_000000 (it cannot"
    )
    assert "*" in markdown([result])
    path.write_bytes(sound)
    result = run(oracle, benchmark, tmp_path / "out")
    assert complaint([result], "OUT") is None
    assert result.images == 2


def test_a_mask_of_another_size_or_with_an_unknown_value_is_named(tmp_path):
    MINIATURES["voc"](tmp_path / "data")
    benchmark = open_benchmark("voc", tmp_path / "data")
    oracle = Oracle(benchmark)
    save_mask(benchmark.masks[KEYS[1]], np.zeros((10, 12)))
    save_mask(benchmark.masks[KEYS[0]], values(0, 77))
    result = run(oracle, benchmark, tmp_path / "out")
    assert [one["why"] for one in result.bad] == [
        "its mask holds the value 77, which is none of the 20 classes",
        "its mask is 12 x 10 pixels, and the image 40 x 24",
    ]
    assert math.isnan(result.miou)
    assert result.to_json()["miou"] is None


def test_tables_show_classes_and_runs(tmp_path):
    MINIATURES["voc"](tmp_path / "data")
    benchmark = open_benchmark("voc", tmp_path / "data")
    result = run(Oracle(benchmark), benchmark, tmp_path / "out")
    text = class_table(result)
    assert "(17 classes are in no image and not in the mean)" in text
    assert text.endswith("2 images of PASCAL VOC: mIoU 100.00, pixel accuracy 100.00")
    assert "| oracle | 100.00 |" in markdown([result])


def test_overlays_show_truth_and_prediction(tmp_path):
    MINIATURES["voc"](tmp_path / "data")
    benchmark = open_benchmark("voc", tmp_path / "data")
    draw_overlays(Oracle(benchmark, 1), benchmark, Folder(tmp_path / "out"), 5)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{k}.png" for k in KEYS]
    sheet = np.array(Image.open(tmp_path / "out" / f"{KEYS[0]}.png").convert("RGB"))
    truth, predicted = sheet[26:50, 60:100], sheet[26:50, 110:150]
    assert (truth != predicted).any()


def command(*arguments: str, ranks: int = 1) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "--"]
    return subprocess.run(
        [*start, "eval/segment.py", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


def test_ranks_share_images_and_sum_to_the_figures_of_one(tmp_path, run_folder):
    MINIATURES["ade20k"](tmp_path)
    common = [
        "--run", str(run_folder), "--benchmarks", "ade20k", "--data", str(tmp_path), *SMALL,
        "--cache", str(tmp_path / "cache"),
    ]  # fmt: skip
    two = command(*common, "--out", str(tmp_path / "two"), ranks=2)
    assert two.returncode == 0, two.stderr
    assert main([*common, "--out", str(tmp_path / "one")]) == 0
    results = [
        json.loads((tmp_path / n / "run/ade20k/result.json").read_text()) for n in ("one", "two")
    ]
    assert results[0]["classes"] == results[1]["classes"]
    assert len(list((tmp_path / "two/run/ade20k").glob("images-*.jsonl"))) == 2
    assert two.stdout.count("mIoU, %") == 1


def test_the_command_scores_clip_and_a_run_on_real_images(
    shared, tmp_path, run_folder, clip_folder
):
    done = command(
        "--run", "clip", "--run", str(run_folder), "--model", str(clip_folder),
        "--benchmarks", "coco_object", "--data", str(shared / "coco_mini"), *SMALL,
        "--limit", "12", "--out", str(tmp_path), "--cache", str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("12 images of COCO-Object: mIoU ") == 2
    table = (tmp_path / "table.md").read_text()
    assert table in done.stdout
    assert [row.split("|")[1].strip() for row in rows_of(table)[-2:]] == ["clip", "run"]
    result = json.loads((tmp_path / "clip/coco_object/result.json").read_text())
    assert result["images"] == 12
    assert result["settings"]["inference"]["threshold"] == 0.4
    assert len(list((tmp_path / "clip/coco_object/overlays").glob("*.png"))) == 1


def test_the_table_holds_earlier_runs_too(tmp_path, run_folder, clip_folder, capsys):
    MINIATURES["voc20"](tmp_path)
    common = [
        "--benchmarks",
        "voc20",
        "--data",
        str(tmp_path),
        *SMALL,
        "--out",
        str(tmp_path / "o"),
    ]
    common += ["--cache", str(tmp_path / "cache")]
    assert main(["--run", "surgery", "--model", str(clip_folder), *common]) == 0
    assert main(["--run", str(run_folder), *common]) == 0
    rows = rows_of((tmp_path / "o/table.md").read_text())[-2:]
    assert [row.split("|")[1].strip() for row in rows] == ["surgery", "run"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--benchmarks", "pets"], "there is no benchmark 'pets'"),
        (["--benchmarks", "voc,voc"], "the benchmark voc is named twice"),
        (["--benchmarks", ""], "no benchmark named"),
        (["--data", "/nowhere"], "there is no folder /nowhere"),
        (["--limit", "0"], "--limit is at least 1"),
        (["--clip-weight", "2"], "--clip-weight is between 0 and 1"),
        (["--run", "/nowhere/run"], "is not a training run"),
        (["--window", "30"], "is not whole patches of 8 pixels"),
        (["--name", "a/b"], "--name is the name of one run's folder"),
    ],
)
def test_mistakes_are_one_sentence(change, message, tmp_path, run_folder, capsys):
    MINIATURES["voc"](tmp_path)
    flags = {
        "--run": str(run_folder), "--benchmarks": "voc", "--data": str(tmp_path),
        "--out": str(tmp_path / "out"), "--cache": str(tmp_path / "cache"),
        "--size": "32", "--window": "32", "--stride": "16",
    } | {change[0]: change[1]}  # fmt: skip
    assert main([part for pair in flags.items() for part in pair]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_a_run_made_with_another_clip_is_one_sentence(
    tmp_path, run_folder, other_clip_folder, capsys
):
    MINIATURES["voc"](tmp_path)
    code = main(
        ["--run", str(run_folder), "--benchmarks", "voc", "--data", str(tmp_path), *SMALL]
        + ["--model", str(other_clip_folder), "--out", str(tmp_path / "out")]
    )
    assert code == 2
    assert "was trained on another model" in capsys.readouterr().err


def test_a_damaged_image_fails_the_command_at_its_end(tmp_path, run_folder, capsys):
    MINIATURES["voc"](tmp_path)
    (tmp_path / f"VOCdevkit/VOC2012/JPEGImages/{KEYS[0]}.jpg").write_bytes(b"no jpeg")
    code = main(
        ["--run", str(run_folder), "--benchmarks", "voc", "--data", str(tmp_path), *SMALL]
        + ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    )
    printed = capsys.readouterr()
    assert code == 2
    assert "1 images of PASCAL VOC: mIoU" in printed.out
    assert printed.err.count("error: ") == 1
    assert f"1 of 2 images of PASCAL VOC could not be scored: {KEYS[0]} (" in printed.err


def test_every_trick_of_inference_has_a_flag():
    base = ["--run", "clip", "--benchmarks", "voc", "--data", "x"]
    assert parse(base).inference.clip_weight == 0.3
    off = parse(
        [*base, "--clip-weight", "0", "--window", "0", "--probability", "sigmoid", "--pamr"]
    )
    assert off.inference.clip_weight == 0
    assert off.inference.window == 0
    assert off.inference.pamr
    assert off.inference.threshold_of(0.45) == 0.4


@pytest.mark.parametrize("protocol", ["release", "release-dev", "paper", "group-vit", "sclip"])
def test_a_result_is_printed_with_its_protocol(protocol, tmp_path, clip_folder, run_folder, capsys):
    MINIATURES["voc"](tmp_path)
    common = ["--benchmarks", "voc", "--data", str(tmp_path), "--protocol", protocol, *SMALL]
    common += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    runs = ["--run", "clip", "--run", str(run_folder), "--model", str(clip_folder)]
    assert main([*runs, *common]) == 0
    printed = capsys.readouterr().out
    assert f"protocol {protocol}, but for " in printed
    assert "size, window, stride: pixels by " in printed
    found = {
        name: json.loads((tmp_path / f"out/{name}/voc/result.json").read_text())["settings"]
        for name in ("clip", "run")
    }
    assert {one["inference"]["protocol"] for one in found.values()} == {protocol}
    # What a run was trained with, and the protocol's for a baseline.
    assert found["run"]["inference"]["normalisation"] == "imagenet"
    clips = "clip" if protocol in ("paper", "sclip") else "imagenet"
    assert found["clip"]["inference"]["normalisation"] == clips
    for one in found.values():
        assert describe(one["inference"], "voc") in printed


def test_the_paper_stands_beside_ours_for_real_images(shared, tmp_path, clip_folder, capsys):
    flags = ["--protocol", "release", "--run", "clip", "--model", str(clip_folder), "--limit", "2"]
    flags += ["--benchmarks", "coco_object", "--data", str(shared / "coco_mini"), *SMALL]
    flags += ["--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert main(flags) == 0
    printed = capsys.readouterr().out
    for row in paper_rows("1"):
        assert f"| {row.label} | {row.values['coco_object']:.1f} |" in printed
    assert "| clip | " in printed
    assert (
        json.loads((tmp_path / "clip/coco_object/result.json").read_text())["settings"][
            "inference"
        ]["threshold"]
        == 0.4
    )


def test_a_predicted_class_without_truth_counts_as_mmsegmentation_counts_it(tmp_path):
    MINIATURES["voc"](tmp_path / "data")
    benchmark = open_benchmark("voc", tmp_path / "data")
    figures = {}
    for absent in ("zero", "left-out"):
        about = {"inference": Inference(absent=absent)}
        result = run(Oracle(benchmark, 1), benchmark, tmp_path / absent, **about)
        figures[absent] = sum(row["iou"] is not None for row in result.classes)
    assert figures["left-out"] == 4  # 0, 1, 2 and 20
    assert figures["zero"] == 5  # and 3
