"""The small CLIP that is kept in the repository knows the small world, and is no more than a CLIP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.clip import Clip, load_clip
from workflows.shapes.measures import Measures, main, measure


@pytest.fixture(scope="module")
def folder(root) -> Path:
    return root / "workflows" / "shapes" / "clip"


@pytest.fixture(scope="module")
def clip(folder) -> Clip:
    return load_clip(str(folder))


@pytest.fixture(scope="module")
def measures(clip) -> Measures:
    return measure(clip, scenes=60, seed=1)  # others than the README's figures are of


def test_it_is_small_enough_for_a_repository(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8e6


def test_it_names_things(measures):
    assert measures.naming >= 80
    assert measures.naming_in_scene >= 80


def test_its_patches_segment_better_than_background_only_and_worse_than_supervised(measures):
    best = max(one.miou for one in measures.segmented)
    assert best >= 15 > 2 * measures.background
    assert measures.supervised > best + 5


def test_it_knows_colours_beside_things(clip):
    """An attribute changes what a text means, and the thing stays nearer than other things."""
    red, blue, other = clip.encode_texts(
        ["a photo of a red ball", "a photo of a blue ball", "a photo of a blue ladder"]
    )
    assert red @ blue < 0.97
    assert red @ blue > red @ other


def test_texts_of_any_words_and_length_are_embedded(clip):
    found = clip.encode_texts(["", "zebra", "球", "a photo of a ball " * 40])
    assert torch.isfinite(found).all()
    assert found.norm(dim=-1).tolist() == pytest.approx([1] * 4, abs=1e-5)


def test_how_it_was_made_stands_beside_it(folder):
    about = json.loads((folder / "training.json").read_text())
    assert about["settings"]["seed"] == 0
    assert about["settings"]["steps"] > 1000
    assert about["measures"]["scenes"] == 300


def test_the_command_prints_a_table(folder, capsys):
    assert main(["--model", str(folder), "--scenes", "4"]) == 0
    assert "| mIoU, everything background |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "{clip}", "--scenes", "0"], "--scenes is at least 1, not 0"),
        (["--model", "nowhere"], "open_clip knows no model 'nowhere'"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, folder, capsys):
    assert main([one.format(clip=folder) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {sentence}")
    assert error.count("\n") == 1
