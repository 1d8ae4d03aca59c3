"""A run's folder: that no run overwrites another, and which checkpoints one goes on from."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from common.errors import UserError
from training.trainer import Trainer, train


def test_a_run_is_not_overwritten(world, tmp_path):
    settings = world.settings(tmp_path, steps=1)
    train(settings)
    with pytest.raises(UserError, match="holds a run already: --resume goes on with it"):
        train(settings)


def test_two_runs_cannot_write_into_one_folder(world, tmp_path):
    ours = Trainer(world.settings(tmp_path), torch.device("cpu"))
    with ours.folder.lock(), pytest.raises(UserError, match="another run is writing"):
        ours.fit()


def test_resume_without_a_checkpoint_starts_at_the_beginning(world, tmp_path, capsys):
    train(world.settings(tmp_path, steps=1, resume=True))
    assert "no checkpoint in" in capsys.readouterr().out


def test_a_checkpoint_of_another_model_is_refused(world, tmp_path, save_clip):
    settings = world.settings(tmp_path, steps=1)
    train(settings)
    other = save_clip(tmp_path / "other", seed=9)
    with pytest.raises(UserError, match=r"was trained on another model \(.*tiny\) than .*other"):
        train(replace(settings, model=str(other), resume=True))


def test_a_checkpoint_of_another_vocabulary_is_refused(world, tmp_path, make_labels, pictures):
    settings = world.settings(tmp_path, steps=1)
    train(settings)
    other = make_labels(
        tmp_path / "other.parquet", {key: text for key, (text, _) in pictures.items()}, kinds=1
    )
    with pytest.raises(UserError, match=r"on another vocabulary \(\d+ tags\) than that of .*other"):
        train(replace(settings, labels=str(other), resume=True))


def test_a_checkpoint_of_other_settings_is_refused(world, tmp_path):
    settings = world.settings(tmp_path, steps=1)
    train(settings)
    with pytest.raises(UserError, match=r"was trained with lr 0\.5, not 0\.1"):
        train(replace(settings, lr=0.1, resume=True))


def test_a_checkpoint_from_before_the_choice_of_normalisation_is_clips(world, tmp_path):
    settings = world.settings(tmp_path, steps=1, normalisation="clip")
    train(settings)
    path = f"{settings.folder}/checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    del about["settings"]["normalisation"]
    save_file(load_file(path), path, {"about": json.dumps(about)})
    with pytest.raises(UserError, match="was trained with normalisation clip, not imagenet"):
        train(replace(settings, normalisation="imagenet", resume=True, steps=2))
    train(replace(settings, resume=True, steps=2))


def test_a_damaged_checkpoint_is_one_sentence(world, tmp_path):
    settings = world.settings(tmp_path, steps=1)
    train(settings)
    path = tmp_path / "runs" / "tagalign" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="is damaged or of another kind"):
        train(replace(settings, resume=True))
