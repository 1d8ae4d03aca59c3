"""Runs on a GPU: they agree with the CPU's, go on after a break, and never make the host wait."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from training import trainer
from training.losses import TAG_LOSSES
from training.trainer import Trainer

pytestmark = pytest.mark.gpu


def train(settings, device: torch.device):
    """A run on this device; the figures of its steps."""
    Trainer(settings, device).fit()
    lines = Path(settings.folder, "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def figures(lines: list[dict], name: str = "loss") -> list[float]:
    return [line[name] for line in lines]


def test_a_run_has_the_cpus_losses(world, tmp_path, device):
    settings = world.settings(tmp_path, name="gpu", precision="fp32")
    ours = train(settings, device)
    theirs = train(replace(settings, name="cpu"), torch.device("cpu"))
    for name in ("loss_tag", "loss_text", "gradient_norm"):
        assert figures(ours, name) == pytest.approx(figures(theirs, name), rel=1e-3)


def test_bfloat16_learns_as_float32_does(world, tmp_path, device):
    settings = world.settings(tmp_path, name="bf16", precision="bf16")
    ours = train(settings, device)
    theirs = train(replace(settings, name="fp32", precision="fp32"), device)
    assert figures(ours) == pytest.approx(figures(theirs), rel=0.05)


def test_a_run_goes_on_after_a_break_as_if_there_were_none(world, tmp_path, device):
    whole = world.settings(tmp_path, name="whole", precision="fp32", flip=0.5)
    expected = train(whole, device)
    train(replace(whole, name="parts", steps=2), device)
    lines = train(replace(whole, name="parts", resume=True), device)
    assert figures(lines) == pytest.approx(figures(expected), rel=1e-4)
    ours, theirs = (
        load_file(f"{tmp_path}/runs/{name}/projector.safetensors") for name in ("parts", "whole")
    )
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-5)


def test_micro_batches_change_nothing(world, tmp_path, device):
    whole = world.settings(tmp_path, name="whole", precision="fp32", separate=True)
    expected = train(whole, device)
    lines = train(replace(whole, name="parts", micro_batch=3), device)
    assert figures(lines) == pytest.approx(figures(expected), rel=1e-4)
    assert figures(lines, "gradient_norm") == pytest.approx(
        figures(expected, "gradient_norm"), rel=1e-3
    )


@pytest.mark.parametrize(
    "changes",
    [
        *({"tag_loss": kind} for kind in TAG_LOSSES),
        {"separate": True},
        {"micro_batch": 3},
        {"path": "naclip", "size": 48},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_no_step_makes_the_host_wait(changes, world, tmp_path, device):
    """All but waiting for images: from the batch in pinned memory to the optimiser."""
    if device.type != "cuda":
        pytest.skip("only a GPU computes while the host goes on")
    ours = Trainer(world.settings(tmp_path, **changes), device)
    loader = trainer.make_loader(ours.setup.data, ours.batches, 0, True)
    batches = iter([batch for _, batch in zip(range(3 * ours.batches.parts), loader, strict=False)])
    ours._one_step(batches)  # allocates, and chooses kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in (2, 3):
            found = ours._one_step(batches)
            ours._numbers.see(step, [found["loss"], found["gradient_norm"]])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found["loss"].isfinite()


def test_a_loss_that_is_no_number_is_noticed_within_a_few_steps(
    world, tmp_path, device, monkeypatch
):
    settings = world.settings(tmp_path, steps=200, save_every=1000, log_every=1000)
    loss, made = Trainer._loss, []

    def broken(self, *rest):
        made.append(self.step)
        terms = loss(self, *rest)
        return terms._replace(total=terms.total * float("nan")) if self.step == 2 else terms

    monkeypatch.setattr(Trainer, "_loss", broken)
    with pytest.raises(trainer.NotANumber, match="at step 3"):
        Trainer(settings, device).fit()
    assert len(made) < 20


@pytest.mark.parametrize("flag", ["tf32", "channels_last", "compile"])
def test_flags_of_speed_change_little(flag, world, tmp_path, device):
    if flag == "compile" and device.type != "cuda":
        pytest.skip("compiling for a CPU needs a C++ compiler")
    plain = world.settings(tmp_path, name="plain", precision="fp32")
    expected = train(plain, device)
    lines = train(replace(plain, name=flag, **{flag: True}), device)
    assert figures(lines) == pytest.approx(figures(expected), rel=2e-2)
    names = load_file(f"{tmp_path}/runs/{flag}/projector.safetensors").keys()
    assert names == load_file(f"{tmp_path}/runs/plain/projector.safetensors").keys()


def on_a_rank(rank: int, port: int, settings) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.backends.cudnn.allow_tf32 = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train(settings)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("kind", ["balanced", "groupvit"])
def test_two_gpus_have_the_losses_of_one(kind, world, tmp_path, device, free_port):
    alone = world.settings(tmp_path, name="one", precision="fp32", tag_loss=kind)
    expected = train(alone, device)
    both = replace(alone, name="two")
    mp.spawn(on_a_rank, (free_port(), both), nprocs=2)
    lines = Path(both.folder, "metrics.jsonl").read_text().splitlines()
    ours = [json.loads(line) for line in lines]
    assert figures(ours) == pytest.approx(figures(expected), rel=1e-3)
