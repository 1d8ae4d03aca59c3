"""The three commands one after the other, with nothing but their flags: captions to a trained run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from labels.reader import Labels

pytestmark = pytest.mark.cluster  # parsing/run.py starts a Ray of its own


@dataclass(frozen=True)
class Captioned:
    """Images and a JSONL file of their captions.

    Attributes:
        images: a folder of images or shards.
        captions: with the caption in a column of a usual name.
        key: the column that says which image it is of.
        count: images.
        rows: captions.
    """

    images: Path
    captions: Path
    key: str
    count: int
    rows: int


@pytest.fixture
def coco(shared, tmp_path) -> Captioned:
    """COCO's photographs, each with its five captions; a caption names its image by number."""
    folder = shared / "coco_mini"
    notes = json.loads((folder / "annotations" / "captions_train2017.json").read_text())
    captions = tmp_path / "captions.jsonl"
    captions.write_text("".join(json.dumps(note) + "\n" for note in notes["annotations"]))
    return Captioned(folder / "train2017", captions, "image_id", 80, 400)


@pytest.fixture
def drawn(world, tmp_path, pictures) -> Captioned:
    """Images drawn in the colours of what their captions name, in webdataset shards."""
    captions = tmp_path / "captions.jsonl"
    with open(captions, "w") as file:
        for key, (text, _) in pictures.items():
            thing = text.partition(" number")[0]
            place = ("grass", "table", "beach")[int(key) % 5 % 3]  # so that captions are repeated
            file.write(json.dumps({"key": key, "caption": f"{thing} on the {place}"}) + "\n")
    return Captioned(world.shards, captions, "key", 32, 32)


def run(root: Path, command: list[object]) -> str:
    """What a command prints; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=root, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_labels(root: Path, given: Captioned, folder: Path, *parser: str) -> Path:
    """The first two commands."""
    labels = folder / "labels.parquet"
    tags = folder / "tags"
    run(root, ["parsing/run.py", "--captions", given.captions, "--key-column", given.key,
               "--output", tags, *parser])  # fmt: skip
    run(root, ["labels/build_vocab.py", "--tags", tags, "--out", labels])
    return labels


def train(root: Path, given: Captioned, labels: Path, clip: Path, folder: Path, ranks: int):
    """The third, on one process or two: what it prints, and its lines of figures."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    name = f"by-{ranks}"
    printed = run(root, [*(launcher if ranks > 1 else []), "training/train.py",
        "--labels", labels, "--images", given.images, "--model", clip, "--runs", folder / "runs",
        "--name", name, "--cache", folder / "cache", "--batch-size", 32, "--steps", 24, "--lr", 1,
        "--crop", "center", "--workers", 1, "--log-every", 1])  # fmt: skip
    lines = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return printed, [json.loads(line) for line in lines]


def check(given: Captioned, printed: str, lines: list[dict]) -> None:
    """That every image has found its labels, and that training has lowered the loss."""
    assert f"{given.count} of {given.count} images have one of the {given.rows} rows" in printed
    assert len(lines) == 24
    for loss in ("loss", "loss_tag"):
        start, end = (sum(line[loss] for line in part) / 4 for part in (lines[:4], lines[-4:]))
        assert end < start


@pytest.mark.parametrize(
    ("data", "expected"),
    [("coco", {"man", "dog", "white", "wooden"}), ("drawn", {"ball", "tree", "beach", "red"})],
)
def test_captions_become_tags_labels_and_a_run(
    data, expected, request, root, tiny_folder, tmp_path
):
    given = request.getfixturevalue(data)
    labels = make_labels(root, given, tmp_path, "--parser", "spacy")
    tags = set(Labels(labels).vocabulary.tags)
    assert expected <= tags
    curves = []
    for ranks in (1, 2):
        printed, lines = train(root, given, labels, tiny_folder, tmp_path, ranks)
        check(given, printed, lines)
        curves.append([line["loss"] for line in lines])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


@pytest.mark.engine
def test_the_llms_tags_train_a_run_as_well(drawn, root, tiny_folder, tmp_path):
    labels = make_labels(root, drawn, tmp_path, "--model", "smollm2")
    assert {"ball", "cat", "red", "white"} <= set(Labels(labels).vocabulary.tags)
    check(drawn, *train(root, drawn, labels, tiny_folder, tmp_path, ranks=2))
