"""A folder of features: what a check keeps in it, what mends it, and what is refused."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.errors import UserError
from labels.reader import Labels
from training.feature_chunks import ChunkWriter
from training.features import FeatureFolder
from training.setup import prepare
from training.tag_check.check import Check, check_tags
from training.tag_check.parts import Parts
from training.train import main
from training.trainer import Trainer, train

CPU = torch.device("cpu")
WHOLE = {"crop": "whole", "normalisation": "clip"}


@pytest.fixture
def short(world, kept, tmp_path) -> dict[str, object]:
    """Flags of a short run on a copy of the features."""
    shutil.copytree(kept.features, tmp_path / "features")
    return {
        "labels": world.labels, "features": tmp_path / "features", "model": world.clip,
        "runs": tmp_path / "runs", "cache": tmp_path / "cache", "batch-size": 8, "steps": 2,
        "workers": 0,
    }  # fmt: skip


def sentence(flags: dict[str, object], capsys) -> str:
    """What a command that ends with 2 prints."""
    capsys.readouterr()
    line = [part for flag, value in flags.items() for part in (f"--{flag}", str(value))]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1
    return error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": "random"}, "--crop random: an augmentation needs pixels"),
        ({"flip": 0.5, "jitter": 0.1}, "give --flip 0.0 --jitter 0.0, or --images"),
        ({"randaugment": "rand-m9-mstd0.5-inc1"}, "give --randaugment ''"),
        ({"erasing": 0.25}, "--erasing 0.25: an augmentation needs pixels"),
        ({"interpolation": "bilinear"}, "give --interpolation bicubic"),
        ({"protocol": "release"}, "--randaugment rand-m9-mstd0.5-inc1"),
        ({"model": "groupvit:x"}, "all of GroupViT's image side is trained"),
        ({"features": "nowhere"}, "there are no features in nowhere"),
        ({"features": ""}, "--features names a folder"),
        ({"path": "maskclip"}, "kept with --path surgery, and --path is maskclip here"),
        ({"depth": 2}, "kept with --depth 4, and --depth is 2 here"),
        ({"size": 48}, "kept with --size 32, and --size is 48 here"),
        ({"normalisation": "imagenet"}, "kept with --normalisation clip"),
        ({"key-field": "url"}, "were kept without --key-field"),
    ],
    ids=str,
)
def test_what_features_cannot_give_is_one_sentence(changes, message, short, capsys):
    assert message in sentence(short | changes, capsys)


def test_features_of_another_clip_are_one_sentence(short, save_clip, tmp_path, capsys):
    other = save_clip(tmp_path / "other", seed=5)
    error = sentence(short | {"model": other}, capsys)
    assert "holds the features of another model" in error


def test_a_depth_beyond_the_blocks_is_all_blocks(short):
    assert (
        main([part for k, v in (short | {"depth": 99}).items() for part in (f"--{k}", str(v))]) == 0
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "there are no features in"),
        (lambda folder: [one.unlink() for one in folder.iterdir()], "there are no features in"),
        (lambda folder: (folder / "images.arrow").unlink(), "are not complete: run the same"),
        (lambda folder: (folder / "images.arrow").write_bytes(b"x"), "images.arrow is damaged"),
        (lambda folder: (folder / "features.json").write_text("{"), "features.json is damaged"),
        (lambda folder: (folder / "features.json").write_text("{}"), "by another version"),
        (lambda folder: (folder / FeatureFolder.name(1)).unlink(), "000001.safetensors is missing"),
        (lambda folder: shutil.copy(folder / FeatureFolder.name(3), folder / FeatureFolder.name(1)),
         "images.arrow names 32 pictures, and the chunks hold 24"),
        (lambda folder: cut(folder, -1), "000001.safetensors is cut off or damaged"),
        (lambda folder: cut(folder, 500), "000001.safetensors is cut off or damaged"),
        (lambda folder: cut(folder, 0), "000001.safetensors is cut off or damaged"),
    ],
)  # fmt: skip
def test_damaged_features_are_one_sentence(damage, message, short, capsys):
    damage(short["features"])
    assert message in sentence(short, capsys)


def cut(folder: Path, length: int) -> None:
    file = folder / FeatureFolder.name(1)
    file.write_bytes(file.read_bytes()[:length])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_is_cut_off_during_the_training_is_one_sentence(
    workers, world, short, tmp_path
):
    settings = world.settings(tmp_path, features=str(short["features"]), workers=workers, **WHOLE)
    ours = Trainer(settings, CPU)
    cut(short["features"], 4000)
    with pytest.raises(
        UserError, match=r"features cannot be read: .*000001.safetensors has become"
    ):
        ours.fit()


def test_keys_without_features_are_counted_and_left_out(
    short, world, tmp_path, make_labels, pictures, capsys
):
    captions = {key: text for key, (text, _) in pictures.items()} | {"elsewhere": "a red ball"}
    labels = make_labels(tmp_path / "more.parquet", captions)
    line = [part for k, v in (short | {"labels": labels}).items() for part in (f"--{k}", str(v))]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "32 of 32 images have one of the 33 rows of labels" in out
    assert "1 of the 33 rows of labels have no kept features and are left out" in out
    assert "the key 'elsewhere'" in out
    labels = make_labels(tmp_path / "others.parquet", {"elsewhere": "a red ball"})
    error = sentence(short | {"labels": labels}, capsys)
    assert f"0 of the 32 images at {short['features']} have one of the 1 keys" in error


def test_a_killed_check_leaves_features_that_are_not_trained_on_and_goes_on(
    world, keep_features, kept, tmp_path, monkeypatch
):
    write = Parts.write

    def killed(self, chunk, part):
        if chunk == 2:
            raise KeyboardInterrupt
        write(self, chunk, part)

    monkeypatch.setattr(Parts, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        keep_features(tmp_path)
    monkeypatch.undo()
    features = str(tmp_path / "features")
    with pytest.raises(UserError, match="are not complete"):
        prepare(world.settings(tmp_path, features=features, **WHOLE), CPU)
    keep_features(tmp_path)
    for one in sorted(Path(kept.features).iterdir()):
        if one.suffix != ".json":
            assert one.read_bytes() == (Path(features) / one.name).read_bytes()


def test_a_check_mends_features_and_keeps_those_it_had_measured_without(
    keep_features, kept, tmp_path, monkeypatch
):
    first = keep_features(tmp_path, features=None)
    measured = []
    one = Check._measure_chunk
    monkeypatch.setattr(
        Check, "_measure_chunk", lambda self, chunk, rest: (measured.append(chunk), one(self, chunk, rest))
    )  # fmt: skip
    features = tmp_path / "features"
    before = Labels(first.out).scores.tolist()
    check_tags(replace(first, features=str(features)))
    assert measured == [0, 1, 2, 3]
    assert Labels(first.out).scores.tolist() == before
    cut(features, -1)
    check_tags(replace(first, features=str(features)))
    assert measured == [0, 1, 2, 3, 1]
    check_tags(replace(first, features=str(features)))
    assert len(measured) == 5
    for name in ("images.arrow", *map(FeatureFolder.name, range(4))):
        assert (features / name).read_bytes() == (Path(kept.features) / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "none"}, "kept with --path surgery, and --path is none here"),
        ({"normalisation": "imagenet"}, "kept with --normalisation clip"),
        ({"chunk": 16}, "the features of another --chunk"),
    ],
    ids=str,
)
def test_features_of_another_check_are_not_overwritten(
    changes, message, keep_features, kept, tmp_path
):
    with pytest.raises(UserError, match=message):
        keep_features(tmp_path, features=kept.features, **changes)


def test_features_of_other_pictures_are_not_overwritten(world, keep_features, kept, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(world.folder, folder)
    (folder / "000003.jpg").rename(folder / "000003.jpeg")
    with pytest.raises(UserError, match="the features of other pictures"):
        keep_features(tmp_path, features=kept.features, images=str(folder))


def test_pictures_that_cannot_be_decoded_have_no_features(world, keep_features, tmp_path, capsys):
    folder = tmp_path / "images"
    shutil.copytree(world.folder, folder)
    for number in (3, 30, 31):  # the last chunk is without a picture
        (folder / f"{number:06d}.jpg").write_bytes(b"no picture")
    check = keep_features(tmp_path, images=str(folder))
    train(world.settings(tmp_path, features=check.features, **WHOLE))
    out = capsys.readouterr().out
    assert "29 of 29 images have one of the 32 rows of labels" in out
    assert "3 of the 32 rows of labels have no kept features" in out


def test_a_token_beyond_float16_is_one_sentence(keep_features, save_clip, tmp_path):
    clip = save_clip(tmp_path / "large")
    weights = load_file(clip / "open_clip_model.safetensors")
    for name, tensor in weights.items():
        if name.endswith("attn.out_proj.bias") and "visual" in name:
            tensor += 1e5
    save_file(weights, clip / "open_clip_model.safetensors")
    with pytest.raises(UserError, match="beyond float16"):
        keep_features(tmp_path, model=str(clip))
    assert not list((tmp_path / "features").glob("*.safetensors"))


def test_a_full_disk_ends_the_check_and_leaves_no_half_of_a_chunk(
    keep_features, kept, tmp_path, monkeypatch
):
    add = ChunkWriter.add

    def full(self, images, *rest):
        if images[0] > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, images, *rest)

    monkeypatch.setattr(ChunkWriter, "add", full)
    with pytest.raises(UserError, match=r"no room left in .*features: free some space"):
        keep_features(tmp_path)
    names = {path.name for path in (tmp_path / "features").iterdir()}
    assert names == {"features.json", FeatureFolder.name(0)}
    monkeypatch.undo()
    keep_features(tmp_path)
    for name in ("images.arrow", *map(FeatureFolder.name, range(4))):
        assert (tmp_path / "features" / name).read_bytes() == (
            Path(kept.features) / name
        ).read_bytes()
