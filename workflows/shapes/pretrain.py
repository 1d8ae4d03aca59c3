"""Trains the small CLIP of the small world from scratch, on pictures and captions alone.

python workflows/shapes/pretrain.py --out data/shapes-clip --keep workflows/shapes/clip

The loss is CLIP's contrastive loss between pictures and captions; every step has new scenes. After an
interruption the same command goes on from the last checkpoint. OUT gets checkpoint.pt and metrics.jsonl, KEEP
the finished model: an open_clip folder that `training.clip.load_clip` reads.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch
from open_clip.loss import ClipLoss
from safetensors.torch import save as save_safetensors
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from common.errors import UserError, reason
from common.flags import setting
from common.storage import Folder
from training.clip import CONFIG_FILE, Clip, load_clip
from training.model import normalise
from workflows.command import at_least, run_command
from workflows.shapes.dataset import samples
from workflows.shapes.measures import measure
from workflows.shapes.model import MEAN, STD, Size, build, configuration, embed_part, embed_texts
from workflows.shapes.pairs import Pairs, tokenize
from workflows.shapes.tokenizer import save_tokenizer, train_tokenizer

CHECKPOINT, METRICS, ABOUT = "checkpoint.pt", "metrics.jsonl", "training.json"
WEIGHTS = "open_clip_model.safetensors"
_WORDS_FROM = 5_000  # captions that the tokenizer learns its words from
_LARGEST_SCALE = math.log(100)  # of the logits, as in CLIP
_LOOSE = ("out", "keep", "save_every", "measure_every", "threads", "scenes")


@dataclass(frozen=True)
class Settings(Size):
    """A training of the small CLIP, and its size.

    Raises:
        UserError: a number out of its range.
    """

    out: str = setting("", "folder of checkpoint and metrics", required=True, metavar="DIR")
    keep: str | None = setting(
        None, "folder of the finished model; default OUT/clip", metavar="DIR"
    )
    steps: int = setting(4000, "optimiser steps", metavar="N")
    batch: int = setting(128, "pairs in a step", metavar="N")
    lr: float = setting(1e-3, "AdamW's highest learning rate, then a half cosine", metavar="X")
    warm_up: int = setting(100, "steps to the highest rate", metavar="N")
    weight_decay: float = setting(0.1, "of matrices", metavar="X")
    clip_norm: float = setting(1.0, "the largest norm of a gradient", metavar="X")
    bf16: bool = setting(
        True, "products in float32, not bfloat16", flag="--no-bf16", action="store_false"
    )
    seed: int = setting(0, "of everything", metavar="N")
    save_every: int = setting(100, "steps between two checkpoints", metavar="N")
    measure_every: int = setting(400, "steps between two measurements", metavar="N")
    scenes: int = setting(300, "held-out scenes of each measurement", metavar="N")
    threads: int = setting(1, "of torch; one more process draws the scenes", metavar="N")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, steps=1, batch=2, warm_up=0, seed=0, save_every=1)
        at_least(self, measure_every=1, scenes=1, threads=1)
        if not self.lr > 0:
            raise UserError(f"--lr is above 0, not {self.lr}")

    def same(self) -> dict[str, Any]:
        """What a checkpoint must match to be resumed."""
        return {key: value for key, value in asdict(self).items() if key not in _LOOSE}


def pretrain(settings: Settings) -> Path:
    """Trains, or goes on with a training.

    Returns:
        the folder of the finished model.

    Raises:
        UserError: the folder holds a training of other settings, or cannot be written.
    """
    folder = Folder(settings.out)
    folder.make()
    with folder.lock():
        return _pretrain(settings, folder)


def _pretrain(settings: Settings, folder: Folder) -> Path:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    words = (one.caption.text for one in samples("words", _WORDS_FROM, settings.seed))
    tokenizer = train_tokenizer(words)
    model = build(settings, len(tokenizer))
    optimiser = torch.optim.AdamW(
        _groups(model, settings.weight_decay), lr=settings.lr, betas=(0.9, 0.98), eps=1e-6
    )
    start, minutes = _resume(folder, settings, model, optimiser)
    pairs = Pairs(tokenizer, settings.seed, settings.batch, settings.steps)
    batches = DataLoader(
        pairs, batch_size=None, sampler=range(start, settings.steps), num_workers=1,
        prefetch_factor=4, multiprocessing_context="spawn",
    )  # fmt: skip
    loss_of = ClipLoss()
    began = time.monotonic() - 60 * minutes
    model.train()
    for step, (pictures, tokens, corner) in enumerate(batches, start=start + 1):
        rate = settings.lr * schedule(step, settings.warm_up, settings.steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        # on a CPU, the backward pass of torch's flash attention takes three times as long
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16, settings.bf16):
            images = embed_part(model.visual, normalise(pictures, MEAN, STD), corner)
            texts = embed_texts(model, tokens)
        images, texts = (F.normalize(one.float(), dim=-1) for one in (images, texts))
        loss = loss_of(images, texts, model.logit_scale.exp())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, _LARGEST_SCALE)
        minutes = (time.monotonic() - began) / 60
        last = step == settings.steps
        record = {"step": step, "minutes": round(minutes, 2), "loss": round(loss.item(), 4)}
        if step % 20 == 0 or last:
            scale = round(model.logit_scale.exp().item(), 2)
            _log(folder, record | {"lr": rate, "scale": scale})
        if step % settings.measure_every == 0 or last:
            clip = Clip(model, partial(tokenize, tokenizer), "shapes")
            _log(folder, record | measure(clip, settings.scenes, settings.seed).to_json())
            model.requires_grad_(True).train()
        if step % settings.save_every == 0 or last:
            _save(folder, settings, model, optimiser, step, minutes)
    keep = Path(settings.keep) if settings.keep else Path(settings.out) / "clip"
    return save(keep, settings, model, tokenizer, minutes)


def save(
    keep: Path,
    settings: Settings,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    minutes: float,
) -> Path:
    """Writes an open_clip folder with weights in half precision, and measures the model read from it."""
    folder = Folder(keep)
    folder.make()
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    folder.write_json(CONFIG_FILE, configuration(settings, len(tokenizer)))
    save_tokenizer(tokenizer, keep)
    folder.write(WEIGHTS, save_safetensors(weights))
    measures = measure(load_clip(str(keep)), settings.scenes, settings.seed)
    about = {"settings": settings.same(), "minutes": round(minutes, 1), "torch": torch.__version__}
    folder.write_json(ABOUT, about | {"measures": measures.to_json()})
    return keep


def schedule(step: int, warm_up: int, steps: int) -> float:
    """Share of the peak rate at a step, from 1: a linear rise, then a half cosine to nothing."""
    if step <= warm_up:
        return step / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def _resume(
    folder: Folder, settings: Settings, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    if not folder.exists(CHECKPOINT):
        return 0, 0.0
    try:
        state = torch.load(io.BytesIO(folder.read(CHECKPOINT)), weights_only=True)
        before = json.loads(state["settings"])
    except Exception as error:  # pickle, zip and torch each raise their own
        raise UserError(f"{folder.path(CHECKPOINT)} is damaged: {reason(error)}") from error
    changed = [k for k, v in settings.same().items() if before.get(k) != v]
    if changed:
        raise UserError(
            f"{settings.out} holds a training with another {', '.join(changed)}: name another --out"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["minutes"]


def _save(
    folder: Folder,
    settings: Settings,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    minutes: float,
) -> None:
    stream = io.BytesIO()
    state = {
        "model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step,
        "minutes": minutes, "settings": json.dumps(settings.same()),
    }  # fmt: skip
    torch.save(state, stream)
    folder.write(CHECKPOINT, stream.getvalue())


def _log(folder: Folder, record: dict[str, Any]) -> None:
    with open(folder.path(METRICS), "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""

    def work(settings: Settings) -> str:
        return (pretrain(settings) / ABOUT).read_text("utf-8")

    return run_command(__doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
