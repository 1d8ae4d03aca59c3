"""Features that a check of tags keeps: what is in the folder, and that training on them is training on pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from common.errors import UserError
from common.storage import Folder
from eval import segment
from labels.label_file import LABELS, LabelWriter
from labels.reader import Labels
from labels.vocabulary import OBJECT, Vocabulary
from tests.eval.datasets import miniatures
from training.features import FEATURES, FeatureFolder, Features
from training.setup import prepare
from training.tag_check.check import Check, check_tags
from training.tag_check.parts import Parts
from training.train import main, parse
from training.trainer import Trainer, train

CPU = torch.device("cpu")
WHOLE = {"crop": "whole", "normalisation": "clip"}
# Rounding to float16 changes a token by at most 2^-11 = 5e-4 of its size, up or down alike. A feature is the mean of
# 16 patches, each a sum over 32 channels, of which such errors leave a 1/sqrt(512): 2e-5. Logits are 14 (1 / the
# temperature) times cosines, hence off by 3e-4 at most, and a loss of 3 to 6 by 1e-4 of itself at most. (1.5e-5 was
# measured.) A gradient is a difference of probabilities, which takes a digit; 1.6e-4 was measured.
LOSS, GRADIENT = 1e-4, 1e-3


def curve(settings) -> list[dict]:
    return [json.loads(line) for line in Path(settings.folder, "metrics.jsonl").open()]


def column(settings, name: str) -> list[float]:
    return [line[name] for line in curve(settings)]


def test_a_chunk_holds_what_the_head_takes_of_whole_pictures(kept, world, tmp_path):
    for pool in ("patches", "class"):
        ours = Trainer(world.settings(tmp_path, pool=pool, **WHOLE), CPU)
        frozen, _ = ours._encode(ours.setup.data.__getitems__(list(range(32))))
        folder = FeatureFolder.open(kept.features)
        index = folder.index(Folder(tmp_path))
        features = Features(folder, index, pool == "class")
        assert features.shape == frozen.tokens.shape[1:]
        read = np.empty(frozen.tokens.shape, np.float16)
        features.read(np.arange(32), read)
        # In batches of other sizes the encoder's float32 differ in their last bits.
        torch.testing.assert_close(
            torch.from_numpy(read).float(), frozen.tokens, rtol=2**-11, atol=1e-5
        )
    chunks = [load_file(Path(kept.features) / FeatureFolder.name(i)) for i in range(4)]
    assert [len(one["images"]) for one in chunks] == [10, 10, 10, 2]
    assert {one["tokens"].dtype for one in chunks} == {torch.float16}
    assert torch.cat([one["images"] for one in chunks]).tolist() == list(range(32))
    assert index.features.arrow_schema.names == FEATURES.names


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pool": "class"},
        {"path": "naclip"},
        {"text_weight": 0.0, "tag_loss": "softmax"},
        {"normalisation": "imagenet", "size": 48},
        {"micro_batch": 3, "separate": True},
    ],
    ids=str,
)
def test_losses_are_those_of_training_on_pictures(changes, world, keep_features, tmp_path):
    of_encoder = ("path", "normalisation", "size")
    check = keep_features(tmp_path, **{k: v for k, v in changes.items() if k in of_encoder})
    pictures = world.settings(tmp_path, name="pictures", **WHOLE | changes)
    features = replace(pictures, name="features", features=check.features, images="nowhere")
    train(pictures)
    train(features)
    for name, tolerance in (("loss", LOSS), ("gradient_norm", GRADIENT)):
        assert column(features, name) == pytest.approx(column(pictures, name), rel=tolerance)
    # The middle of the same pictures is another input, and gives other losses by far more.
    train(replace(pictures, name="other", crop="center"))
    other = np.array(column(replace(pictures, name="other"), "loss"))
    assert (abs(other / column(pictures, "loss") - 1) > 10 * LOSS).any()


def test_a_trained_clip_shards_and_soft_labels_give_the_losses_of_pictures(
    root, world, keep_features, tmp_path
):
    """In an order of shards, with scores of the check as weights, on the small world's CLIP."""
    model = str(root / "workflows/shapes/clip")
    check = keep_features(tmp_path, model=model, images=str(world.shards))
    pictures = world.settings(
        tmp_path, name="pictures", model=model, labels=check.out, images=str(world.shards),
        soft_labels=True, lr=0.05, **WHOLE,
    )  # fmt: skip
    features = replace(pictures, name="features", features=check.features, images="nowhere")
    train(pictures)
    train(features)
    for name in ("loss_tag", "loss_text"):
        wanted = column(pictures, name)
        assert column(features, name) == pytest.approx(wanted, rel=LOSS)
        assert max(wanted) > (1 + 10 * LOSS) * min(wanted)


def test_a_run_that_is_killed_and_resumed_equals_one_that_is_not(world, kept, tmp_path):
    whole = world.settings(tmp_path, name="whole", features=kept.features, workers=2, **WHOLE)
    train(whole)
    parts = replace(whole, name="parts", workers=0)
    train(replace(parts, steps=2))
    train(replace(parts, resume=True))
    ours, theirs = (load_file(f"{one.folder}/checkpoint.safetensors") for one in (parts, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert column(parts, "loss") == column(whole, "loss")


def test_an_image_with_several_captions_is_kept_once_and_trained_on_with_each(
    world, keep_features, tmp_path, pictures
):
    rows = [
        {"key": key, "caption": f"{text} {again}", "tag_ids": [again]}
        for key, (text, _) in pictures.items()
        for again in range(2)
    ]
    with LabelWriter(
        tmp_path / "x.parquet", Vocabulary(["a", "b"], [OBJECT] * 2, np.array([32, 32]), 64)
    ) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=LABELS))
    labels = str(tmp_path / "x.parquet")
    check = keep_features(tmp_path, labels=labels)
    pictures = world.settings(tmp_path, name="pictures", labels=labels, **WHOLE)
    features = replace(pictures, name="features", features=check.features)
    assert len(prepare(features, CPU).data) == 64
    train(pictures)
    train(features)
    assert column(features, "loss") == pytest.approx(column(pictures, "loss"), rel=LOSS)


def test_a_run_on_pictures_goes_on_on_features(world, kept, tmp_path):
    whole = world.settings(tmp_path, name="whole", **WHOLE)
    train(whole)
    parts = replace(whole, name="parts")
    train(replace(parts, steps=2))
    train(replace(parts, features=kept.features, resume=True))
    assert column(parts, "loss") == pytest.approx(column(whole, "loss"), rel=LOSS)


def test_features_in_a_store_are_read_there(world, keep_features, kept, tmp_path):
    check = keep_features(tmp_path, features="memory://features")
    on_disk = world.settings(tmp_path, name="disk", features=kept.features, **WHOLE)
    train(on_disk)
    in_store = replace(on_disk, name="store", features=check.features)
    train(in_store)
    assert column(in_store, "loss") == column(on_disk, "loss")
    Folder(check.features).remove(FeatureFolder.name(1))
    with pytest.raises(UserError, match=r"memory://features/features-000001\.safetensors is missing"):
        prepare(in_store, CPU)


def test_features_that_moved_are_read_at_their_new_place(world, kept, tmp_path):
    place = tmp_path / "moved"
    shutil.copytree(kept.features, place)
    settings = world.settings(tmp_path, features=str(place), **WHOLE)
    train(replace(settings, steps=2))
    shutil.move(place, tmp_path / "again")
    train(replace(settings, features=str(tmp_path / "again"), resume=True))
    assert len(curve(settings)) == 6


def test_settings_say_that_features_were_used_and_the_run_is_evaluated_on_pictures(
    world, kept, tmp_path, capsys
):
    settings = world.settings(tmp_path, features=kept.features, **WHOLE)
    train(settings)
    saved = json.loads(Path(settings.folder, "settings.json").read_text())["settings"]
    assert (saved["features"], saved["crop"], saved["normalisation"]) == (
        kept.features, "whole", "clip",
    )  # fmt: skip
    miniatures.voc(tmp_path / "data")
    flags = {
        "run": settings.folder, "benchmarks": "voc20", "data": tmp_path / "data",
        "out": tmp_path / "eval", "size": 32, "window": 32, "stride": 16,
    }  # fmt: skip
    line = [part for flag, value in flags.items() for part in (f"--{flag}", str(value))]
    assert segment.main(line) == 0, capsys.readouterr().err
    assert "mIoU" in capsys.readouterr().out


def test_defaults_of_pixels_are_those_of_the_features():
    settings = parse(["--labels", "x", "--features", "y"])
    assert (settings.crop, settings.normalisation) == ("whole", "clip")
    assert (
        parse(["--labels", "x", "--features", "y", "--normalisation", "imagenet"]).crop == "whole"
    )
    assert parse(["--labels", "x"]).crop == "random"


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
