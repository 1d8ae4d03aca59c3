"""Training on features that a check of tags has kept is training on pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from common.storage import Folder
from eval import segment
from labels.label_file import LABELS, LabelWriter
from labels.vocabulary import OBJECT, Vocabulary
from tests.eval.datasets import miniatures
from training.feature_chunks import ChunkReader, ChunkWriter
from training.features import FEATURES, FeatureFolder, Features
from training.setup import prepare
from training.train import parse
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


def test_a_batch_reads_its_pictures_alone_and_a_chunk_is_written_as_it_comes(
    world, kept, tmp_path, monkeypatch
):
    """Memory does not grow with the number of pictures, neither of a chunk nor of a folder."""
    ours = Trainer(world.settings(tmp_path, features=kept.features, **WHOLE), CPU)
    read, sizes = ChunkReader.read, []
    monkeypatch.setattr(
        ChunkReader, "read", lambda self, *rest: (sizes.append(rest[-1]), read(self, *rest))[1]
    )
    ours.setup.data.__getitems__([3, 30, 32 + 3])
    assert sizes == [16 * 32 * 2] * 3
    with open(tmp_path / "chunk", "wb", buffering=0) as file:
        writer = ChunkWriter(file)
        for number in range(1, 4):
            writer.add(np.arange(5), torch.ones(5, 16, 32), torch.ones(5, 32))
            assert file.tell() > number * 5 * 16 * 32 * 2


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
    with pytest.raises(
        UserError, match=r"memory://features/features-000001\.safetensors is missing"
    ):
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
