"""What the trainer costs beside what it cannot do without, measured side by side in one run.

    python workflows/benchmarks/train.py                  # all; about ten minutes on two cores
    python workflows/benchmarks/train.py --parts loss,loader,overhead,ranks

Images are drawn and weights are random: neither changes what a step costs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `training` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.nn import functional as F

from common.errors import UserError
from common.flags import setting
from common.storage import Folder
from labels.label_file import LABELS, LabelWriter
from labels.reader import Labels
from labels.vocabulary import OBJECT, Vocabulary
from training.augment import Augmentation, random_box
from training.chunked_losses import Positives
from training.data import LabelledImages, MicroBatches, Order, make_loader
from training.images import find_images, open_index
from training.keys import join
from training.losses import TagLoss
from training.protocols import settings_of
from training.settings import Settings as TrainSettings
from training.trainer import WORK, Trainer
from workflows.benchmarks.measuring import MIB, photo, resident, table, take_turns
from workflows.command import at_least, comma_list, run_command

ROOT = Path(__file__).resolve().parents[2]
BATCH, TAGS, POSITIVES, WIDTH = 512, 20_000, 5, 512
WORKERS = 2
Row = tuple[str, str, str, str]  # what, ours, the reference's, ours by the reference's
PARTS = ("loss", "loader", "overhead", "ranks")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Raises:
        UserError: an unknown part, or fewer than one repeat.
    """

    parts: tuple[str, ...] = comma_list(PARTS, "what is measured", metavar="P,P,...")
    repeats: int = setting(7, "of each measurement, of which the medians are shown", metavar="N")
    one_loss: str | None = setting(None, argparse.SUPPRESS, choices=("ours", "dense"))

    def __post_init__(self) -> None:
        at_least(self, repeats=1)
        if unknown := sorted(set(self.parts) - set(PARTS)):
            raise UserError(f"--parts takes {', '.join(PARTS)}, not '{unknown[0]}'")


def measure(settings: Settings) -> str:
    """The table; of a process that `loss` starts, the peak of its memory in bytes."""
    if settings.one_loss:
        return str(peak_memory(LOSSES[settings.one_loss]))
    parts = {"loss": loss, "loader": loader, "overhead": overhead, "ranks": ranks}
    rows: list[Row] = [("", "ours", "reference", "ratio")]
    for name in settings.parts:
        rows += parts[name](settings.repeats)
    return table(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, measure, arguments, stopped="stopped")


def loss(repeats: int) -> list[Row]:
    """Forward and backward of Eq. 4. Steps of both take turns; memory is that of processes of their own.

    Where others use the machine too, threads wait for each other and the wall clock of both sides becomes
    the same. So the processor time of one thread is measured as well, which no other work adds to.
    """
    inputs = loss_inputs()
    steps = {name: _fresh(make(*inputs), inputs[0]) for name, make in LOSSES.items()}
    what = f"loss step, {BATCH} images, {TAGS:,} tags"
    rows = []
    for threads, of, clock in (
        (WORKERS, "wall clock", time.perf_counter),
        (1, "processor time", time.process_time),
    ):
        torch.set_num_threads(threads)
        seconds = take_turns(steps, repeats, clock)
        title = f"{what}: ms, {of}, {threads} thread{'s' * (threads > 1)}"
        rows.append(_beside_dense(title, *(seconds[name] * 1e3 for name in ("ours", "dense"))))
    memory = []
    for name in ("ours", "dense"):
        command = [sys.executable, __file__, "--one-loss", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        memory.append(int(done.stdout) / MIB)
    return [*rows, _beside_dense(f"{what}: peak MiB", *memory)]


def _fresh(step: Callable[[], None], images: torch.Tensor) -> Callable[[], None]:
    """A step without the gradient of the step before it."""

    def run() -> None:
        images.grad = None
        step()

    return run


def _beside_dense(title: str, ours: float, dense: float) -> Row:
    return title, f"{ours:.0f}", f"{dense:.0f} (dense labels)", f"{ours / dense:.2f}"


def loss_inputs():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, WIDTH, generator=generator, requires_grad=True)
    tags = F.normalize(torch.randn(TAGS, WIDTH, generator=generator), dim=-1)
    frequencies = 1 / torch.arange(1, TAGS + 1)
    cols = torch.cat([torch.randperm(TAGS, generator=generator)[:POSITIVES] for _ in range(BATCH)])
    crow = torch.arange(0, BATCH * POSITIVES + 1, POSITIVES)
    return images, tags, frequencies, Positives(crow, cols)


def dense_step(images, tags, frequencies, positives) -> Callable[[], None]:
    """Eq. 4 as it is usually written: a row of labels for each image, L1-normalised."""
    log_scale = torch.tensor(1 / 0.07).log().requires_grad_()

    def step() -> None:
        labels = torch.zeros(BATCH, TAGS)  # part of the batch, as a dense loader ships it
        labels[positives.rows, positives.cols] = 1
        logits = F.normalize(images, dim=-1) @ tags.T * log_scale.exp().clamp(max=100)
        scores = (logits + frequencies.log()).log_softmax(dim=-1)
        (-(scores * F.normalize(labels, p=1, dim=-1)).sum(dim=-1).mean()).backward()

    return step


def our_step(images, tags, frequencies, positives) -> Callable[[], None]:
    module = TagLoss("balanced", frequencies)
    return lambda: module(images, tags, positives).backward()


LOSSES = {"ours": our_step, "dense": dense_step}


def peak_memory(make: Callable) -> int:
    """The most bytes that a step needs above those that were in use before it."""
    step = make(*loss_inputs())
    before = resident("VmRSS")
    step()
    return resident("VmHWM") - before


def loader(repeats: int) -> list[Row]:
    """Images a second, beside processes that only decode, crop and resize, without batches, labels,
    captions or shards: as it is usually done with Pillow, and by the loader's own `Augmentation`.

    By the wall clock, and by the processor time of all processes together, which no other work on the
    machine adds to.
    """
    rows = []
    for size, count in (((500, 375), 3_200), ((1600, 1200), 800)):
        with tempfile.TemporaryDirectory() as folder:
            data, files = make_world(Path(folder), size, count)
            rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for _ in range(repeats):
                rates["ours"].append(rate_of_loader(data, count))
                rates["Pillow alone"].append(rate_of_pool(crop_by_pillow, files))
                rates["our crops alone"].append(rate_of_pool(crop_by_us, files))
                rates["the release's alone"].append(rate_of_pool(crop_as_the_release, files))
        for i, of in enumerate(("wall clock", "processor time")):
            medians = {
                name: statistics.median(r[i] for r in taken) for name, taken in rates.items()
            }
            ours = medians.pop("ours")
            what = f"loader, {size[0]} x {size[1]} JPEGs, {WORKERS} workers: images/s, {of}"
            for which, rate in medians.items():
                rows.append((what, f"{ours:.0f}", f"{rate:.0f} ({which})", f"{ours / rate:.2f}"))
    return rows


def make_world(folder: Path, size: tuple[int, int], count: int):
    """Labelled images in shards, and the same files on their own."""
    files = [photo(seed, size) for seed in range(20)]
    for shard in range(4):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for i in range(shard * count // 4, (shard + 1) * count // 4):
                info = tarfile.TarInfo(f"{i:08d}.jpg")
                info.size = len(files[i % 20])
                tar.addfile(info, io.BytesIO(files[i % 20]))
    labels = write_labels(folder / "x.parquet", count)
    shards = find_images(str(folder))
    index = open_index(shards, None, Folder(folder / "cache"))
    import open_clip

    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    joined = join(index, shards, labels)
    labels.captions([0])
    data = LabelledImages(index, shards, joined, labels, Augmentation(224), tokenizer, seed=0)
    return data, [files[i % 20] for i in range(count)]


def write_labels(path: Path, images: int, tags: int = TAGS) -> Labels:
    """Labels of web-like captions: ten words, five tags."""
    rng = np.random.default_rng(0)
    words = [
        f"{a}{b}" for a in ("lake", "moon", "bird", "tree") for b in ("side", "light", "house")
    ]
    vocabulary = Vocabulary(
        [f"tag{i}" for i in range(tags)], [OBJECT] * tags, np.ones(tags, np.int64), max(images, 1)
    )
    rows = [
        {
            "key": f"{i:08d}",
            "caption": " ".join(rng.choice(words, 10)),
            "tag_ids": sorted(rng.choice(tags, POSITIVES, replace=False).tolist()),
        }
        for i in range(images)
    ]
    with LabelWriter(path, vocabulary) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=LABELS))
    return Labels(path)


def rate_of_loader(data: LabelledImages, count: int) -> tuple[float, float]:
    """Images per second from the first batch on (starting processes is no part of it), and per
    processor second.
    """
    size, first = 200, 2 * WORKERS  # batches that are prefetched before the clock starts
    batches = MicroBatches(Order(len(data), None, 0), size, size, 0, count // size + first)
    before = processor_seconds()
    iterator = iter(make_loader(data, batches, WORKERS, pin=False))
    for _ in range(first):
        next(iterator)
    start = time.perf_counter()
    for _ in range(count // size):
        next(iterator)
    seconds = time.perf_counter() - start
    del iterator  # waits for the workers
    done = count + first * size
    return count / seconds, done / (processor_seconds() - before)


def rate_of_pool(crop: Callable[[bytes], int], files: list[bytes]) -> tuple[float, float]:
    parts = [files[i::WORKERS] for i in range(WORKERS)]
    before = processor_seconds()
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(int, range(WORKERS * 4)))  # start the processes
        start = time.perf_counter()
        list(pool.map(crop_all, [crop] * WORKERS, parts))
        seconds = time.perf_counter() - start
    return len(files) / seconds, len(files) / (processor_seconds() - before)


def processor_seconds() -> float:
    """Of this process and of all that it started and that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def crop_all(crop: Callable, files: list[bytes]) -> int:
    rng = random.Random(0)
    return sum(crop(data, rng).shape[0] for data in files)


def crop_by_pillow(data: bytes, rng) -> np.ndarray:
    """The same random resized crop as it is usually written."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    left, top, wide, high = random_box(*image.size, 0.08, rng)
    cut = image.crop((left, top, left + wide, top + high))
    return np.asarray(cut.resize((224, 224), Image.Resampling.BICUBIC))


def crop_by_us(data: bytes, rng) -> np.ndarray:
    return Augmentation(224)(data, rng.getrandbits(64))


def crop_as_the_release(data: bytes, rng) -> np.ndarray:
    return settings_of("release", labels="").augmentation(224)(data, rng.getrandbits(64))


def overhead(repeats: int) -> list[Row]:
    """The part of a step that is not encoder, projector, loss or optimiser: ViT-B/16, batch 8."""
    with tempfile.TemporaryDirectory() as folder:
        settings = run_settings(Path(folder), steps=repeats + 1, model="ViT-B-16", batch=8)
        trainer = Trainer(settings, torch.device("cpu"))
        loader = make_loader(trainer.setup.data, trainer.batches, WORKERS, pin=False)
        batches = iter(loader)
        trainer._one_step(batches)
        shares, steps = [], []
        for _ in range(repeats):
            trainer.watch.take()
            start = time.perf_counter()
            trainer._one_step(batches)
            seconds = time.perf_counter() - start
            taken = trainer.watch.take()
            steps.append(seconds)
            shares.append(1 - sum(taken[phase] for phase in WORK) / seconds)
    step = f"{statistics.median(steps):.2f} s"
    return [("trainer, ViT-B/16, batch 8", step, "overhead", f"{statistics.median(shares):.1%}")]


def run_settings(
    folder: Path, steps: int, model: str, batch: int, count: int = 96, **more: object
) -> TrainSettings:
    """A run on `count` drawn images; a model named `tiny` or a random one of open_clip."""
    import open_clip
    from safetensors.torch import save_file

    images = folder / "images"
    images.mkdir()
    drawn = [photo(i, (500, 375)) for i in range(min(count, 96))]
    for i in range(count):
        (images / f"{i:08d}.jpg").write_bytes(drawn[i % len(drawn)])
    write_labels(folder / "x.parquet", count, tags=500)
    saved = folder / "clip"
    saved.mkdir()
    config = TINY if model == "tiny" else open_clip.get_model_config(model)
    (saved / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(0)
    built = open_clip.model.CLIP(**config)
    save_file(built.state_dict(), saved / "open_clip_model.safetensors")
    return TrainSettings(
        labels=str(folder / "x.parquet"),
        images=str(images),
        model=str(saved),
        runs=str(folder / "runs"),
        cache=str(folder / "cache"),
        batch_size=batch,
        steps=steps,
        workers=WORKERS,
        log_every=1,
        **more,
    )


TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 6, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}


def ranks(repeats: int) -> list[Row]:
    """The largest relative difference between the loss curves of one process and of two."""
    steps = 30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = run_settings(folder, steps, "tiny", 32)
        command = ["training/train.py", "--workers", "1", "--log-every", "1", "--lr", "0.1"]
        for field in ("labels", "images", "model", "runs", "cache", "batch_size", "steps"):
            command += [f"--{field.replace('_', '-')}", str(getattr(settings, field))]
        two = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
        curves = []
        for run, start in (("one", []), ("two", two)):
            subprocess.run(
                [sys.executable, *start, *command, "--name", run],
                check=True,
                capture_output=True,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            lines = (folder / "runs" / run / "metrics.jsonl").read_text().splitlines()
            curves.append([json.loads(line)["loss"] for line in lines])
    worst = max(abs(a - b) / abs(a) for a, b in zip(*curves, strict=True))
    last = [f"{curve[-1]:.6f}" for curve in curves]
    return [
        (f"loss after {steps} steps, 2 ranks", last[1], f"{last[0]} (1 rank)", f"off {worst:.1e}")
    ]


if __name__ == "__main__":
    sys.exit(main())
