"""Whole runs: that they learn, that they go on as if nothing had happened, and what stops them."""

from __future__ import annotations

import json
import math
import signal
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from labels.label_file import LABELS, LabelWriter
from labels.vocabulary import OBJECT, Vocabulary
from training import trainer
from training.clip import _fingerprint
from training.losses import TAG_LOSSES
from training.setup import images_that_fit
from training.trainer import Trainer, train


def curve(settings) -> list[dict]:
    """The lines of a run's metrics."""
    with open(f"{settings.folder}/metrics.jsonl") as file:
        return [json.loads(line) for line in file]


def checkpoint(settings) -> dict[str, torch.Tensor]:
    return load_file(f"{settings.folder}/checkpoint.safetensors")


def losses(settings) -> list[float]:
    return [line["loss"] for line in curve(settings)]


def test_it_overfits_32_images(world, tmp_path):
    """Each image learns its own tags: the loss comes down to the least that several tags allow."""
    settings = world.settings(
        tmp_path,
        batch_size=32,
        steps=150,
        crop="center",
        text_weight=0.0,
        tag_loss="softmax",
        lr=8.0,
        log_every=1,
    )
    train(settings)
    first, last = curve(settings)[0], curve(settings)[-1]
    labels = Trainer(replace(settings, name="again"), torch.device("cpu")).setup.data
    counts = labels.labels.indptr[1:] - labels.labels.indptr[:-1]
    least = sum(math.log(n) for n in counts if n) / (counts > 0).sum()
    assert first["loss_tag"] > least + 1.5
    assert last["loss_tag"] < least + 0.3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_killed_and_resumed_equals_one_that_is_not(world, tmp_path, workers):
    augmented = {"flip": 0.5, "jitter": 0.3, "randaugment": "rand-m9-mstd0.5-inc1", "erasing": 0.5}
    whole = world.settings(tmp_path, name="whole", workers=workers, **augmented)
    train(whole)
    train(replace(whole, name="parts", steps=2))
    # what a kill leaves behind: figures of steps after the checkpoint, the last line half written
    with open(f"{tmp_path}/runs/parts/metrics.jsonl", "a") as file:
        file.write('{"step": 3, "loss": 0.0}\n{"step": 4, "lo')
    train(replace(whole, name="parts", resume=True))
    ours, theirs = checkpoint(replace(whole, name="parts")), checkpoint(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert losses(replace(whole, name="parts")) == losses(whole)
    assert [line["step"] for line in curve(replace(whole, name="parts"))] == [1, 2, 3, 4, 5, 6]


def test_a_signal_ends_the_run_with_a_checkpoint_that_it_goes_on_from(world, tmp_path, monkeypatch):
    settings = world.settings(tmp_path)
    count = Trainer._count

    def interrupted(self, parts):
        if self.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return count(self, parts)

    monkeypatch.setattr(Trainer, "_count", interrupted)
    with pytest.raises(UserError, match="stopped after step 3, which is saved in"):
        train(settings)
    monkeypatch.undo()
    train(replace(settings, resume=True))
    assert len(losses(settings)) == 6


def test_micro_batches_change_nothing(world, tmp_path):
    whole = world.settings(tmp_path, name="whole", separate=True)
    parts = replace(whole, name="parts", micro_batch=3)
    train(whole)
    train(parts)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    norms = [[line["gradient_norm"] for line in curve(s)] for s in (whole, parts)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_a_batch_that_fits_goes_through_the_projector_once(
    world, tmp_path, make_labels, pictures, monkeypatch
):
    """320 captions of 32 images; GradCache would need a second forward pass."""
    rows = [
        {"key": key, "caption": f"{text} {again}", "tag_ids": [again % 3]}
        for key, (text, _) in pictures.items()
        for again in range(10)
    ]
    vocabulary = Vocabulary(["a", "b", "c"], [OBJECT] * 3, np.array([1, 1, 1]), 320)
    with LabelWriter(tmp_path / "many.parquet", vocabulary) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=LABELS))
    settings = world.settings(
        tmp_path, labels=str(tmp_path / "many.parquet"), batch_size=320, steps=1
    )
    ours = Trainer(settings, torch.device("cpu"))
    passes = []
    ours.model.head.register_forward_hook(lambda *_: passes.append(1))
    ours._one_step(iter(trainer.make_loader(ours.setup.data, ours.batches, 0, False)))
    assert len(passes) == 1
    cut = Trainer(replace(settings, name="cut", micro_batch=100), torch.device("cpu"))
    assert cut.batches.parts == 4


def test_what_fits_is_estimated_from_the_free_memory(tiny, monkeypatch):
    few = images_that_fit(tiny, 64, 2, torch.device("cpu"))
    assert few == (4 << 30) // (22 * 64 * 32 * 4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * few, 20 * few))
    assert images_that_fit(tiny, 64, 2, torch.device("cuda")) == 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 << 30, 80 << 30))
    assert images_that_fit(tiny, 64, 2, torch.device("cuda")) == pytest.approx(7 * few, rel=1e-3)


def test_workers_and_the_form_of_the_images_change_nothing(world, tmp_path):
    """Shards have an order of their own; one shard holds them all in the order of the folder."""
    settings = world.settings(tmp_path, name="none")
    train(settings)
    train(replace(settings, name="two", workers=2))
    assert losses(replace(settings, name="two")) == losses(settings)
    shards = replace(settings, name="shards", images=str(world.shards))
    train(shards)
    train(replace(shards, name="shards2", workers=2))
    assert losses(replace(shards, name="shards2")) == losses(shards)


@pytest.mark.parametrize("kind", TAG_LOSSES)
def test_every_tag_loss_trains(kind, world, tmp_path):
    settings = world.settings(tmp_path, tag_loss=kind, crop="center", steps=12, batch_size=32)
    train(settings)
    assert curve(settings)[-1]["loss_tag"] < curve(settings)[0]["loss_tag"]


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "class"},
        {"path": "maskclip"},
        {"path": "naclip"},
        {"randaugment": "rand-m9-mstd0.5-inc1", "erasing": 0.25, "interpolation": "bilinear"},
        {"path": "none"},
        {"separate": True},
        {"text_weight": 0.0},
        {"tag_weight": 0.0},
        {"size": 48},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_every_variant_lowers_its_loss(changes, world, tmp_path):
    settings = world.settings(tmp_path, crop="center", steps=12, batch_size=32, **changes)
    train(settings)
    lines = curve(settings)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert ("loss_text" in lines[0]) == (settings.text_weight > 0)
    assert ("T_tag" in lines[0]) == (settings.tag_weight > 0)


def test_only_the_projector_and_the_temperatures_learn(world, tmp_path):
    ours = Trainer(world.settings(tmp_path), torch.device("cpu"))
    before = ours.setup.encoder.fingerprint
    learning = {id(p) for group in ours.optimiser.param_groups for p in group["params"]}
    assert learning == {id(p) for p in ours.model.parameters()}
    assert not any(p.requires_grad for p in ours.setup.encoder.parameters())
    ours.fit()
    assert _fingerprint(ours.setup.encoder.model) == before


def test_the_optimiser_is_the_papers(world, tmp_path):
    ours = Trainer(world.settings(tmp_path, lr=1e-3), torch.device("cpu"))
    matrices, others = ours.optimiser.param_groups
    assert matrices["lr"] == pytest.approx(1e-3 * 8 / 4096)
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert all(p.ndim > 1 for p in matrices["params"])
    assert all(p.ndim <= 1 for p in others["params"])


def test_the_release_decays_gates_and_temperatures_too(world, tmp_path):
    ours = Trainer(world.settings(tmp_path, decay_scalars=True), torch.device("cpu"))
    decayed, others = ours.optimiser.param_groups
    assert {p.ndim for p in decayed["params"]} == {0, 2, 4}
    assert {p.ndim for p in others["params"]} == {1}


def test_the_mean_is_over_tagged_images_or_over_all(world, tmp_path, make_labels, pictures):
    captions = {key: text if int(key) % 4 == 0 else "of" for key, (text, _) in pictures.items()}
    labels = str(make_labels(tmp_path / "quarter.parquet", captions))
    curves = {}
    for mean_over in ("tagged", "all"):
        settings = world.settings(
            tmp_path, name=mean_over, mean_over=mean_over, labels=labels, batch_size=32, steps=1,
            crop="center", text_weight=0.0 if mean_over == "all" else 1.0,
        )  # fmt: skip
        train(settings)
        curves[mean_over] = curve(settings)[0]["loss_tag"]
    assert curves["all"] == pytest.approx(curves["tagged"] / 4, rel=1e-5)


def test_tags_are_embedded_with_the_prompt_of_the_settings(world, tmp_path):
    with_stop = Trainer(world.settings(tmp_path, prompt="a photo of a {}."), torch.device("cpu"))
    clip = with_stop.setup.encoder
    tags = with_stop.setup.data.labels.vocabulary.tags
    expected = clip.encode_texts([f"a photo of a {tag}." for tag in tags])
    torch.testing.assert_close(with_stop.setup.tags, expected)
    assert (
        expected - clip.encode_texts([f"A photo of a {tag}" for tag in tags])
    ).abs().max() > 0.01


def test_a_batch_is_no_larger_than_the_data(world, tmp_path, capsys):
    ours = Trainer(world.settings(tmp_path, batch_size=4096), torch.device("cpu"))
    assert ours.setup.batch_size == 32
    assert "a batch of 32 instead of 4,096" in capsys.readouterr().out


def test_progress_says_what_people_look_for(world, tmp_path, capsys):
    train(world.settings(tmp_path, steps=2))
    line = capsys.readouterr().out.splitlines()[-1]
    for part in ("step 2/2", "loss", "tag", "text", "T tag 0.07", "gradient", "images/s", "left"):
        assert part in line
    board = tmp_path / "runs" / "tagalign" / "tensorboard"
    assert any(board.iterdir())


def test_pixels_are_normalised_as_the_settings_say(world, tmp_path):
    """White is (1 - mean) / std of each channel, which the frozen encoder gets."""
    seen = []
    for name in ("clip", "imagenet"):
        ours = Trainer(world.settings(tmp_path, name=name, normalisation=name), torch.device("cpu"))
        batch = ours.setup.data[0]
        white = batch._replace(pixels=torch.full_like(batch.pixels, 255))
        ours.setup.encoder.visual.conv1.register_forward_hook(
            lambda module, inputs, output: seen.append(inputs[0][0, :, 0, 0])
        )
        ours._encode(white)
    torch.testing.assert_close(seen[0], torch.full((3,), (1 - 0.5) / 0.25))
    expected = [(1 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    torch.testing.assert_close(seen[1], torch.tensor(expected))


def test_images_that_cannot_be_decoded_are_counted_and_replaced(world, tmp_path, pictures):
    images = tmp_path / "images"
    images.mkdir()
    for number, (key, (_, data)) in enumerate(pictures.items()):
        (images / f"{key}.jpg").write_bytes(data if number else data[: len(data) // 2])
    settings = world.settings(tmp_path, images=str(images), steps=12)
    train(settings)
    shares = [line["skipped"] for line in curve(settings)]
    assert 0 < shares[-1] < 0.05


def test_a_run_that_skips_more_than_a_twentieth_stops(world, tmp_path, pictures):
    images = tmp_path / "images"
    images.mkdir()
    for number, (key, (_, data)) in enumerate(pictures.items()):
        (images / f"{key}.jpg").write_bytes(data if number % 5 else b"<html>not found</html>")
    with pytest.raises(UserError, match=r"\d+ of \d+ images could not be decoded, .* than 5%"):
        train(world.settings(tmp_path, images=str(images)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_of_undecodable_images_stops_at_once(world, tmp_path, pictures, workers):
    images = tmp_path / "images"
    images.mkdir()
    for key in pictures:
        (images / f"{key}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"20 images in a row cannot be decoded, the last is .*jpg"):
        train(world.settings(tmp_path, images=str(images), workers=workers))


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(world, tmp_path, monkeypatch):
    settings = world.settings(tmp_path, steps=4, save_every=2)
    loss = Trainer._loss

    def broken(self, *rest):
        terms = loss(self, *rest)
        return terms._replace(total=terms.total * math.nan) if self.step == 3 else terms

    monkeypatch.setattr(Trainer, "_loss", broken)
    with pytest.raises(UserError, match=r"no longer a number at step 4: the last checkpoint stays"):
        train(settings)
    assert all(t.isfinite().all() for t in checkpoint(settings).values())


def test_a_loss_that_is_no_number_is_noticed_long_before_the_next_checkpoint(
    world, tmp_path, monkeypatch
):
    settings = world.settings(tmp_path, steps=20, save_every=100, log_every=100)
    loss, made = Trainer._loss, []

    def broken(self, *rest):
        made.append(self.step)
        terms = loss(self, *rest)
        return terms._replace(total=terms.total * math.inf) if self.step == 2 else terms

    monkeypatch.setattr(Trainer, "_loss", broken)
    with pytest.raises(UserError, match="no longer a number at step 3: the last checkpoint stays"):
        train(settings)
    assert made == [0, 1, 2]


def test_wandb_is_asked_for_only_where_it_is_installed(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # makes its import fail
    with pytest.raises(UserError, match="pip install wandb"):
        train(world.settings(tmp_path, wandb="project"))


def test_images_without_tags_teach_only_the_text_loss(world, tmp_path, make_labels, pictures):
    captions = {key: text if int(key) % 2 else "of" for key, (text, _) in pictures.items()}
    labels = make_labels(tmp_path / "half.parquet", captions)
    settings = world.settings(tmp_path, labels=str(labels))
    assert len(Trainer(settings, torch.device("cpu")).setup.data) == 32
    without = replace(settings, text_weight=0.0)
    assert len(Trainer(without, torch.device("cpu")).setup.data) == 16


def test_the_phases_of_a_step_are_measured(world, tmp_path):
    ours = Trainer(world.settings(tmp_path, steps=1, log_every=5), torch.device("cpu"))
    ours.watch.take()
    batches = iter(trainer.make_loader(ours.setup.data, ours.batches, 0, False))
    ours._one_step(batches)
    assert set(ours.watch.take()) == {"waiting", *trainer.WORK}
