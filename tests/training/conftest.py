"""Fixtures of the trainer's tests: a random, tiny CLIP in local files, and 32 small images."""

from __future__ import annotations

import io
import json
import re
import socket
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from labels.label_file import LABELS, LabelWriter
from labels.vocabulary import ATTRIBUTE, OBJECT, Vocabulary
from training.clip import Clip, load_clip
from training.settings import Settings
from training.tag_check.check import check_tags
from training.tag_check.settings import Settings as CheckSettings

TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,  # open_clip's tokenizer
        "width": 48,
        "heads": 4,
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
    model.token_embedding.weight.data.mul_(50)  # else all texts would look alike to it
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


STOP = frozenset(("a", "an", "the", "of", "on", "in", "with", "and", "are", "for"))


def write_labels(path: Path, captions: dict[str, str], kinds: int = 2) -> Path:
    """A label file by the labels' own code: the words of each caption are its tags.

    Every second tag of the vocabulary is an attribute, or none is where `kinds` is 1.
    """
    words = {
        key: sorted({w for w in re.findall("[a-z]{3,}", caption.lower()) if w not in STOP})
        for key, caption in captions.items()
    }
    counts = Counter(word for found in words.values() for word in found)
    tags = [word for word, _ in counts.most_common(60)]
    tags = tags[::kinds] + (tags[1::2] if kinds == 2 else [])
    objects = len(tags[::kinds]) if kinds == 2 else len(tags)
    ids = {tag: number for number, tag in enumerate(tags)}
    vocabulary = Vocabulary(
        tags,
        [OBJECT] * objects + [ATTRIBUTE] * (len(tags) - objects),
        np.array([counts[tag] for tag in tags]),
        len(captions),
    )
    rows = [
        {
            "key": key,
            "caption": captions[key],
            "tag_ids": sorted(ids[w] for w in words[key] if w in ids),
        }
        for key in captions
    ]
    with LabelWriter(path, vocabulary, made_from=[{"parser": "hand"}]) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=LABELS))
    return path


THINGS = ("red ball", "blue box", "green tree", "yellow house", "white cat", "black dog")
COLOURS = {
    "red": (220, 30, 30),
    "blue": (30, 60, 220),
    "green": (30, 160, 60),
    "yellow": (230, 210, 40),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}


def draw(caption: str, seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """A JPEG in the colour that the caption names, with stripes that tell images apart."""
    noise = np.random.default_rng(seed).normal(0, 12, (size[1], size[0], 3))
    colour = COLOURS[next(word for word in caption.split() if word in COLOURS)]
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    stripes = 70 * np.sin((across * (seed % 8) + down * (seed // 8 * 3)) / 20)
    array = np.clip(np.array(colour) + noise + stripes[..., None], 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, "JPEG", quality=90)
    return sink.getvalue()


@pytest.fixture(scope="session")
def pictures() -> dict[str, tuple[str, bytes]]:
    """32 images by key: their captions and files."""
    return {
        f"{i:06d}": (f"a {THINGS[i % 6]} number {'abcdefgh'[i // 4] * 3}", draw(THINGS[i % 6], i))
        for i in range(32)
    }


def write_shard(path: Path, pictures: dict[str, tuple[str, bytes]]) -> None:
    """A webdataset tar as img2dataset writes it."""
    with tarfile.open(path, "w") as tar:
        for key, (caption, data) in pictures.items():
            record = json.dumps({"url": f"http://x/{key}", "caption": caption}).encode()
            for ending, content in (("jpg", data), ("txt", caption.encode()), ("json", record)):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@dataclass(frozen=True)
class World:
    """A small data set in every form that the trainer reads."""

    labels: Path
    folder: Path
    shards: Path
    clip: Path

    def settings(self, tmp_path: Path, **changes: object) -> Settings:
        """Settings of a short run on it."""
        values = {
            "labels": str(self.labels),
            "images": str(self.folder),
            "model": str(self.clip),
            "runs": str(tmp_path / "runs"),
            "cache": str(tmp_path / "cache"),
            "batch_size": 8,
            "steps": 6,
            "lr": 0.5,
            "workers": 0,
            "log_every": 1,
        }
        return Settings(**(values | changes))


@pytest.fixture(scope="session")
def world(tmp_path_factory, pictures, tiny_folder) -> World:
    root = tmp_path_factory.mktemp("world")
    labels = write_labels(root / "x.parquet", {key: text for key, (text, _) in pictures.items()})
    (root / "folder").mkdir()
    for key, (_, data) in pictures.items():
        (root / "folder" / f"{key}.jpg").write_bytes(data)
    (root / "shards").mkdir()
    items = list(pictures.items())
    for number in range(4):
        part = dict(items[number * 8 : number * 8 + 8])
        write_shard(root / "shards" / f"{number:05d}.tar", part)
    return World(labels, root / "folder", root / "shards", tiny_folder)


@pytest.fixture(scope="session")
def make_labels():
    return write_labels


@pytest.fixture(scope="session")
def make_shard():
    return write_shard


@pytest.fixture(scope="session")
def keep_features(world):
    """A function that checks the world's tags in a folder, keeps all of them, and keeps features."""

    def run(root: Path, **changes: object) -> CheckSettings:
        values = {
            "labels": str(world.labels),
            "images": str(world.folder),
            "out": str(root / "seen.parquet"),
            "features": str(root / "features"),
            "model": str(world.clip),
            "cache": str(root / "cache"),
            "keep": "all",
            "chunk": 10,
            "batch_size": 4,
            "workers": 0,
            "page": 0,
        }
        settings = CheckSettings(**values | changes)
        check_tags(settings)
        return settings

    return run


@pytest.fixture(scope="session")
def kept(keep_features, tmp_path_factory) -> CheckSettings:
    """A check that has kept features of the world's folder of images; not to be changed."""
    return keep_features(tmp_path_factory.mktemp("kept"))
