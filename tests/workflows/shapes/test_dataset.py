"""What `make.py` writes is whole, the same each time, and read by every stage as it is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from eval.datasets.benchmark_list import open_benchmark
from eval.datasets.referring import ReferringSet
from eval.parser_scores.gold import read_gold
from parsing.source.readers import Source
from training.images import find_images, index_shard
from workflows.shapes import dataset
from workflows.shapes.dataset import Settings, expression, samples, write_world
from workflows.shapes.make import main
from workflows.shapes.world import NAMES, Placed

TRAIN, HELD_OUT = 40, 12


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("world") / "shapes"
    assert write_world(Settings(str(out), TRAIN, HELD_OUT, seed=3))
    return out


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_settings_give_the_same_bytes(world, tmp_path):
    write_world(Settings(str(tmp_path / "again"), TRAIN, HELD_OUT, seed=3))
    assert contents(tmp_path / "again") == contents(world)


def test_another_seed_gives_other_scenes(world, tmp_path):
    write_world(Settings(str(tmp_path / "other"), TRAIN, HELD_OUT, seed=4))
    assert (tmp_path / "other/gold.jsonl").read_text() != (world / "gold.jsonl").read_text()


def test_the_first_scenes_do_not_depend_on_how_many_follow():
    few, many = list(samples("train", 5, 0)), list(samples("train", 9, 0))
    assert few == many[:5]


def test_held_out_scenes_are_none_of_the_training(world):
    train = {
        json.dumps(one.to_json()["caption"]) + str(one.scene) for one in samples("train", TRAIN, 3)
    }
    assert not train & {
        json.dumps(one.to_json()["caption"]) + str(one.scene)
        for one in samples("held-out", HELD_OUT, 3)
    }


def test_shards_are_read_by_parsing_and_training(world):
    gold = [json.loads(line) for line in (world / "gold.jsonl").read_text().splitlines()]
    rows = list(Source((str(world / "train"),)).rows())
    assert [(row.key, row.caption) for row in rows] == [(g["key"], g["caption"]) for g in gold]
    files = find_images(str(world / "train"))
    assert files.are_shards
    index = index_shard(files.paths[0])
    assert index["name"].to_pylist() == [f"{g['key']}.png" for g in gold]


def test_gold_is_read_by_the_scorer_of_parsers(world):
    gold = read_gold(world / "gold.jsonl")
    expected = list(samples("train", TRAIN, 3))
    assert [one.objects for one in gold] == [one.caption.objects for one in expected]
    assert [one.attributes for one in gold] == [one.caption.attributes for one in expected]


def test_the_segmentation_benchmark_has_every_thing_as_a_class(world):
    benchmark = open_benchmark(str(world / "segmentation"), world)
    assert benchmark.class_names == ("background", *NAMES)
    assert len(benchmark) == HELD_OUT
    for key, one in zip(benchmark.keys, samples("held-out", HELD_OUT, 3), strict=True):
        seen = {benchmark.class_names[i] for i in np.unique(benchmark.truth(key))}
        assert seen <= {"background", *(placed.thing for placed in one.scene.placed)}
        assert benchmark.image(key).size == (64, 64)
    told = [
        json.loads(line)["things"] for line in (world / "held_out.jsonl").read_text().splitlines()
    ]
    assert told == [[p.thing for p in one.scene.placed] for one in samples("held-out", HELD_OUT, 3)]


def test_expressions_are_read_by_the_referring_benchmark(world):
    benchmark = ReferringSet("refcoco_val", world / "referring")
    assert len(benchmark.expressions) == HELD_OUT
    for image, group in benchmark.expressions.items():
        with Image.open(benchmark.path(image)) as picture:
            assert picture.size == (64, 64)
        for one in group:
            mask = benchmark.mask(one)
            assert mask.sum() == benchmark.instances[one.instance]["area"] > 0
            category = benchmark.instances[one.instance]["category_id"]
            assert one.text.split()[-1] == NAMES[category - 1]
            alike = [
                i for i in benchmark.instances.values()
                if (i["image_id"], i["category_id"]) == (image, category)
            ]  # fmt: skip
            assert len(alike) > 1
            assert len(one.text.split()) > 1


def placed(**changes) -> Placed:
    values = {"thing": "ball", "colour": "red", "size": "large", "texture": "plain"}
    return Placed(**(values | changes), x=0.5, y=0.5, extent=0.5, angle=0, mirrored=False)


@pytest.mark.parametrize("seed", range(20))
def test_an_expression_fits_one_thing_only(seed):
    rng = random.Random(seed)
    target, rivals = placed(), [placed(colour="blue"), placed(size="small")]
    said = expression(target, rivals, rng).split()
    assert said[-1] == "ball"
    assert "red" in said
    assert {"large", "big", "huge"} & set(said)
    assert expression(target, [placed()], rng) is None
    # what is medium and plain has no word for it
    assert expression(placed(size="medium"), [placed()], rng) is None


def test_a_finished_folder_is_left_alone(world):
    before = {p: p.stat().st_mtime_ns for p in world.rglob("*")}
    assert not write_world(Settings(str(world), TRAIN, HELD_OUT, seed=3))
    assert {p: p.stat().st_mtime_ns for p in world.rglob("*")} == before


def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    out = tmp_path / "shapes"
    monkeypatch.setattr(dataset, "_write_referring", killed)
    with pytest.raises(KeyboardInterrupt):
        write_world(Settings(str(out), 3, 2))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert write_world(Settings(str(out), 3, 2))


def test_a_folder_of_something_else_is_not_touched(world, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for folder in (tmp_path / "mine", world):
        with pytest.raises(UserError, match="holds something else than this world"):
            write_world(Settings(str(folder), TRAIN, HELD_OUT, seed=9))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    (tmp_path / "empty").mkdir()
    assert write_world(Settings(str(tmp_path / "empty"), 1, 1))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--train", "0"], "--train is at least 1, not 0"),
        (["--held-out", "-1"], "--held-out is at least 1, not -1"),
        (["--seed", "-1"], "--seed is at least 0, not -1"),
        (["--side", "8"], "--side is at least 32, not 8"),
        (["--out", ""], "--out names the folder to write, and is empty"),
        (["--out", "{file}"], "{file} is a file, and --out names a folder"),
        (["--out", "{file}/below"], "cannot write {file}/below: Not a directory"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    arguments = [one.format(file=file) for one in arguments]
    assert main(["--out", str(tmp_path / "x"), *arguments]) == 2
    assert capsys.readouterr().err == f"error: {sentence.format(file=file)}\n"


def test_the_command_runs_without_the_project_installed(root, tmp_path):
    command = [sys.executable, "workflows/shapes/make.py", "--out", str(tmp_path / "w"),
               "--train", "2", "--held-out", "1"]  # fmt: skip
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the small world is in" in done.stdout
    assert (tmp_path / "w" / "world.json").is_file()
