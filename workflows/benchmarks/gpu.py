"""Training and evaluation of ViT-B/16 on one GPU: images a second, memory, and the encoder's share.

    python workflows/benchmarks/gpu.py                     # every flag of speed, one after the other
    python workflows/benchmarks/gpu.py --batch 1024 --repeats 20

Images are drawn and weights are random: neither changes what a step costs. Batches are in memory before
the clock starts, as the loader has figures of its own (`train.py`). Figures depend on the card, which is
printed with them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `training` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch
from torch.nn import functional as F

from common.errors import UserError
from common.flags import setting
from eval.inference.segmenter import Segmenter
from eval.inference.settings import Inference
from training.dense import load_dense
from training.images import decode_image
from training.trainer import Trainer, make_loader
from workflows.benchmarks.measuring import photo, table
from workflows.benchmarks.train import run_settings
from workflows.command import at_least, run_command

FLAGS: tuple[dict[str, object], ...] = (
    {},
    {"precision": "fp32"},
    {"precision": "fp32", "tf32": True},
    {"channels_last": True},
    {"compile": True},
)
CLASSES = 171


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Raises:
        UserError: a number below 1.
    """

    batch: int = setting(512, "images of a training step", metavar="N")
    repeats: int = setting(10, "steps and images, of which the median is shown", metavar="N")
    model: str = setting(
        "ViT-B-16", "open_clip's name of a ViT, or tiny, which a CPU can run", metavar="NAME"
    )
    cpu: bool = setting(False, "run on the CPU, to see that the benchmark itself works")

    def __post_init__(self) -> None:
        at_least(self, batch=1, repeats=1)


def measure(settings: Settings) -> str:
    """The table.

    Raises:
        UserError: there is no GPU.
    """
    if not settings.cpu and not torch.cuda.is_available():
        raise UserError("there is no CUDA GPU here, and this measures one")
    device = torch.device("cpu" if settings.cpu else "cuda")
    card = "CPU" if settings.cpu else torch.cuda.get_device_name()
    rows = [
        (f"{settings.model} on {card}, torch {torch.__version__}", "images/s", "GiB", "encoder")
    ]
    flags = FLAGS[:1] if settings.cpu else FLAGS
    with tempfile.TemporaryDirectory() as folder:
        base = run_settings(Path(folder), 10_000, settings.model, settings.batch, settings.batch)
        rows += [_training(base, changes, settings.repeats, device) for changes in flags]
        rows.append(_evaluation(base.model, settings.repeats, device))
    return table(rows)


def _training(base, changes: dict[str, object], repeats: int, device: torch.device):
    """A row of steps with these flags."""
    name = "-".join(map(str, changes.values())) or "plain"
    trainer = Trainer(replace(base, name=name, **changes), device)
    loader = iter(make_loader(trainer.setup.data, trainer.batches, 2, device.type == "cuda"))
    parts = [next(loader) for _ in range(trainer.batches.parts)]
    for _ in range(3):  # warms up, and compiles
        trainer._one_step(iter(parts))
    _reset_memory(device)
    _wait(device)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        trainer._one_step(iter(parts))
        _wait(device)
        seconds.append(time.perf_counter() - start)
    encoder = []
    for _ in range(repeats):
        start = time.perf_counter()
        for part in parts:
            trainer._encode(part)
        _wait(device)
        encoder.append(time.perf_counter() - start)
    step = statistics.median(seconds)
    shown = ", ".join(f"{key} {value}" for key, value in changes.items()) or "defaults"
    return (
        f"training, batch {trainer.setup.batch_size}, {shown}",
        f"{trainer.setup.batch_size / step:,.0f}",
        _memory(device),
        f"{statistics.median(encoder) / step:.0%}",
    )


def _evaluation(model: str, repeats: int, device: torch.device):
    """A row of segmenting images of 640 x 480 pixels with the default protocol."""
    dense = load_dense("surgery", device, model)
    classes = F.normalize(torch.randn(CLASSES, dense.embed_dim, device=device), dim=-1)
    inference = Inference()
    if dense.patch_size != 16:
        inference = Inference(size=64, window=64, stride=32)
    segmenter = Segmenter(dense, classes, inference)
    image = decode_image(photo(0, (640, 480)))
    inside, both = [0.0], dense.both

    def timed(images: torch.Tensor):
        _wait(device)
        start = time.perf_counter()
        found = both(images)
        _wait(device)
        inside[0] += time.perf_counter() - start
        return found

    segmenter.label_maps([image])
    _reset_memory(device)
    seconds, shares = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        segmenter.label_maps([image])
        seconds.append(time.perf_counter() - start)
    dense.both = timed  # waits for the GPU, so the share has passes of its own
    for _ in range(repeats):
        inside[0], start = 0.0, time.perf_counter()
        segmenter.label_maps([image])
        shares.append(inside[0] / (time.perf_counter() - start))
    return (
        f"evaluation, 640 x 480 pixels, {CLASSES} classes",
        f"{1 / statistics.median(seconds):,.1f}",
        _memory(device),
        f"{statistics.median(shares):.0%}",
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _reset_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _memory(device: torch.device) -> str:
    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device.type == "cuda" else "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, measure, arguments, stopped="stopped")


if __name__ == "__main__":
    sys.exit(main())
