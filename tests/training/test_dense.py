"""Dense features for the evaluator: of plain CLIP, and of a run that was trained."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from common.errors import UserError
from training.dense import BASELINES, load_dense
from training.model import normalise
from training.surgery import ImagePath, image_tokens, plain_features
from training.trainer import train


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_gives_clips_own_features(name, tiny, tiny_folder, images):
    dense = load_dense(name, model=str(tiny_folder))
    tokens = image_tokens(tiny.visual, images, ImagePath(BASELINES[name]))
    expected = F.normalize(plain_features(tiny.visual, tokens.patches), dim=-1)
    features = dense(images)
    assert features.shape == (3, 4, 4, tiny.embed_dim)
    torch.testing.assert_close(features.flatten(1, 2), expected)


def test_a_run_gives_trained_features_and_clips_own_of_the_same_tokens(world, tmp_path, images):
    settings = world.settings(tmp_path)
    train(settings)
    dense = load_dense(settings.folder)
    trained, plain = dense.both(images)
    torch.testing.assert_close(plain, load_dense("surgery", model=settings.model)(images))
    assert (trained - plain).abs().max() > 0.01
    torch.testing.assert_close(dense(images), trained)
    torch.testing.assert_close(trained.norm(dim=-1), torch.ones(3, 4, 4))
    assert dense.step == 6
    assert not any(p.requires_grad for p in dense.parameters())
    assert dense(torch.zeros(1, 3, 40, 64)).shape == (1, 5, 8, dense.embed_dim)


@pytest.mark.parametrize("changes", [{"pool": "class"}, {"path": "none"}, {"blocks": 1}], ids=str)
def test_a_run_is_read_with_the_settings_that_it_was_trained_with(changes, world, tmp_path, images):
    settings = world.settings(tmp_path, **changes)
    train(settings)
    assert load_dense(settings.folder)(images).shape[:3] == (3, 4, 4)


def test_a_run_normalises_pixels_as_it_was_trained(world, tmp_path, tiny):
    clips, imagenets = (tiny.mean, tiny.std), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for name, expected in (("clip", clips), ("imagenet", imagenets)):
        settings = world.settings(tmp_path, name=name, steps=1, normalisation=name)
        train(settings)
        dense = load_dense(settings.folder)
        assert (dense.mean, dense.std) == expected
        assert dense.normalisation == name
    assert load_dense(settings.folder, normalisation="clip").mean == tiny.mean
    assert load_dense("clip", model=settings.model).mean == tiny.mean
    asked = load_dense("clip", model=settings.model, normalisation="imagenet")
    assert (asked.mean, asked.std) == imagenets


def test_the_release_normalises_and_so_do_we_unless_told_otherwise(world, tmp_path):
    assert world.settings(tmp_path).normalisation == "imagenet"


def test_a_run_that_does_not_say_how_it_normalises_did_it_as_clip(world, tmp_path, tiny):
    settings = world.settings(tmp_path, steps=1, normalisation="clip")
    train(settings)
    path = tmp_path / "runs" / "tagalign" / "settings.json"
    old = json.loads(path.read_text())
    del old["settings"]["normalisation"]
    path.write_text(json.dumps(old))
    assert load_dense(settings.folder).mean == tiny.mean


def test_training_pulls_images_towards_their_own_tags(world, tmp_path, pictures):
    """What the evaluator will see: patches are nearer to what their image shows than before."""
    settings = world.settings(
        tmp_path, batch_size=32, steps=60, lr=4.0, crop="center", text_weight=0.0
    )
    train(settings)
    from training.augment import Augmentation

    square = Augmentation(32, "center")
    pixels = torch.stack(
        [torch.from_numpy(square(data, 0).copy()) for _, data in pictures.values()]
    )
    colours = ["red", "blue", "green", "yellow", "white", "black"]
    right = {}
    for name in ("surgery", settings.folder):
        dense = load_dense(name, model=settings.model if name == "surgery" else None)
        texts = dense.encode_texts([f"A photo of a {colour}" for colour in colours])
        features = dense(normalise(pixels, dense.mean, dense.std))
        guess = (features.flatten(1, 2).mean(1) @ texts.T).argmax(-1)
        right[name] = (guess == torch.arange(32) % 6).float().mean().item()
    assert right[settings.folder] > 0.8
    assert right["surgery"] < 0.5


def test_what_is_no_run_is_one_sentence(world, tmp_path, save_clip):
    with pytest.raises(UserError, match=r"is not a training run: it holds no settings\.json"):
        load_dense(str(tmp_path))
    settings = world.settings(tmp_path, steps=1)
    train(settings)
    other = save_clip(tmp_path / "other", seed=5)
    with pytest.raises(UserError, match="was trained on another model"):
        load_dense(settings.folder, model=str(other))
    path = tmp_path / "runs" / "tagalign"
    (path / "projector.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="is damaged or of another kind"):
        load_dense(settings.folder)
    (path / "projector.safetensors").unlink()
    with pytest.raises(UserError, match="its training has saved nothing yet"):
        load_dense(settings.folder)
    (path / "settings.json").write_text('{"settings": {"labels": 1, "nope": 2}}')
    with pytest.raises(UserError, match=r"settings\.json is damaged"):
        load_dense(settings.folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_one_sentence(value, world, tmp_path):
    settings = world.settings(tmp_path, steps=1)
    train(settings)
    path = tmp_path / "runs" / "tagalign" / "projector.safetensors"
    with safe_open(path, "pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["head.proj"][0, 0] = value
    save_file(tensors, path, about)
    with pytest.raises(UserError, match=r"holds values that are no numbers, in proj"):
        load_dense(settings.folder)
