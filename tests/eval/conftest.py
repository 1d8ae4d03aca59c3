"""A tiny CLIP with random weights in local files, and an untrained run on it."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from common.storage import Folder
from tests.eval.datasets.miniatures import coco_object, make_refer
from training.clip import load_clip
from training.dense import Dense, load_dense
from training.model import make_head
from training.runs import PROJECTOR, Origin, save_settings, write_safetensors
from training.settings import Settings

CONFIG = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 2,
    },
}  # fmt: skip


def save_clip(folder: Path, seed: int = 0) -> Path:
    """An open_clip model folder with random weights."""
    folder.mkdir(parents=True)
    about = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    model.token_embedding.weight.data.mul_(
        50
    )  # without this, all texts have nearly the same embedding
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def save_run(folder: Path, clip_folder: Path, seed: int = 3) -> Path:
    """A run's folder as the trainer writes it, with a random projector."""
    settings = Settings(labels="none", model=str(clip_folder), weights=None)
    clip = load_clip(str(clip_folder))
    torch.manual_seed(seed)
    head = make_head(clip, settings)
    for parameter in head.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    origin = Origin(clip.name, clip.fingerprint, "none", 0, 0)
    run = Folder(folder)
    run.make()
    save_settings(run, settings, origin)
    tensors = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    run.write(PROJECTOR, write_safetensors(tensors, {"about": json.dumps({"step": 0})}))
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    return save_clip(tmp_path_factory.mktemp("eval") / "clip")


@pytest.fixture(scope="session")
def other_clip_folder(tmp_path_factory) -> Path:
    return save_clip(tmp_path_factory.mktemp("eval") / "other", seed=5)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, clip_folder) -> Path:
    return save_run(tmp_path_factory.mktemp("eval") / "run", clip_folder)


@pytest.fixture(scope="session")
def surgery(clip_folder) -> Dense:
    """Untrained, with the pixels that `trained` sees."""
    return load_dense("surgery", model=str(clip_folder), normalisation="imagenet")


@pytest.fixture(scope="session")
def trained(run_folder) -> Dense:
    return load_dense(str(run_folder))


@pytest.fixture
def small(tmp_path) -> Path:
    """Two images with four expressions in the layout of REFER."""
    coco_object(tmp_path / "coco")
    file = tmp_path / "coco/annotations/instances_val2017.json"
    return make_refer(tmp_path / "refer", json.loads(file.read_text()), tmp_path / "coco/val2017")
