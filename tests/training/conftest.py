"""A random, tiny CLIP in local files: what the tests train on instead of downloaded weights."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from training.clip import Clip, load_clip

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,  # open_clip's tokenizer
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}


def save_tiny_clip(folder: Path, seed: int = 0, **changes: object) -> Path:
    """Writes an open_clip model folder; weights are lively enough for every part to matter."""
    config = json.loads(json.dumps(TINY))
    for name, value in changes.items():
        part = config["vision_cfg"] if name in config["vision_cfg"] else config
        part[name] = value
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}})
    )
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    for name, parameter in model.named_parameters():
        # open_clip starts biases at 0 and norms at 1, which would hide a mistake in either
        if name.endswith("bias") or "ln_" in name:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def save_clip():
    """`save_tiny_clip`, as tests in this folder cannot import from here."""
    return save_tiny_clip


@pytest.fixture(scope="session")
def tiny_config() -> dict:
    return TINY


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture
def tiny(tiny_folder: Path) -> Clip:
    return load_clip(str(tiny_folder))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def free_port():
    """A function that gives a TCP port of this machine that nobody listens on."""

    def find() -> int:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            return server.getsockname()[1]

    return find
