"""What segmenting costs beside the encoder, counting beside a loop over classes, and memory.

    python workflows/benchmarks/eval.py [--images FOLDER]

The encoder is ViT-B/16 with random weights, along CLIP Surgery's path and with a projector: time and
memory do not depend on the values of weights. Images are JPEGs of 640 x 480 pixels, drawn here unless a
folder is given. Each goes through all stages of `eval/segment.py`: reading, resizing, windows, Eq. 7 and
8, upsampling, background, reading the mask, counting. Other work on the machine disturbs the figures;
with OMP_NUM_THREADS=1 they repeat well, and with --cpu-time beside other work too.
"""

from __future__ import annotations

import gc
import io
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: a module here is called like a package there.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from common.errors import UserError
from common.flags import setting
from eval.confusion import ConfusionMatrix
from eval.datasets.benchmarks import open_image
from eval.datasets.masks import read_mask
from eval.inference.segmenter import Segmenter
from eval.inference.settings import Inference
from training.dense import Dense
from training.projector import Projector
from workflows.benchmarks.measuring import photo, resident, take_turns
from workflows.benchmarks.random_clip import random_clip
from workflows.command import at_least, run_command

MOST_OUTSIDE = 0.03  # of the time in encoder and projector
LEAST_SPEEDUP = 5
MOST_MEMORY = 1.5  # GB above the model


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Raises:
        UserError: no repeats, or a folder without JPEGs.
    """

    images: str | None = setting(None, "folder of JPEGs; default drawn ones", metavar="DIR")
    repeats: int = setting(3, "passes over the images", metavar="N")
    cpu_time: bool = setting(
        False, "count the processor's time, not the wall clock's, where other work runs beside it"
    )

    def __post_init__(self) -> None:
        at_least(self, repeats=1)

    def sources(self) -> list[io.BytesIO | Path]:
        """Four images."""
        if self.images is None:
            return [io.BytesIO(photo(seed, (640, 480))) for seed in range(4)]
        found = sorted(Path(self.images).glob("*.jpg"))[:4]
        if not found:
            raise UserError(f"there are no *.jpg in {self.images}")
        return found


def make_dense() -> Dense:
    """A run's encoder and head, with random weights."""
    clip = random_clip()
    return Dense("random", clip, Projector(clip.visual, 2, 3))


def make_mask(size: tuple[int, int], classes: int) -> io.BytesIO:
    """A PNG of blocks of classes."""
    blocks = np.random.default_rng(0).integers(0, classes + 1, (6, 8), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(sink, "PNG")
    return sink


def outside_the_encoder(
    dense: Dense,
    sources: list[io.BytesIO | Path],
    classes: int,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median seconds for an image, in the encoder and outside it.

    Args:
        dense: the model.
        sources: images.
        classes: how many names there are, beside a background.
        repeats: passes over the images.
        clock: in seconds.
    """
    embeddings = F.normalize(torch.randn(classes, dense.embed_dim), dim=-1)
    segmenter = Segmenter(dense, embeddings, Inference(batch=2), background=0.1)
    matrix = ConfusionMatrix(classes + 1)
    masks = [make_mask(open_image(source).size, classes) for source in sources]
    spent = [0.0]
    original = dense.both

    def timed(windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        start = clock()
        result = original(windows)
        spent[0] += clock() - start
        return result

    inside, outside = [], []
    dense.both = timed
    try:
        for repeat in range(repeats + 1):
            for number, source in enumerate(sources):
                spent[0], start = 0.0, clock()
                image = open_image(source)
                labels = segmenter.label_maps([image])[0]
                masks[number].seek(0)
                truth = read_mask(masks[number]).astype(np.int16)
                matrix.add(truth, labels)
                whole = clock() - start
                if repeat:  # the first pass warms up
                    inside.append(spent[0])
                    outside.append(whole - spent[0])
    finally:
        del dense.both
    return statistics.median(inside), statistics.median(outside)


def loop_over_classes(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """IoU the plain way, for comparison: intersection and union of each class by itself."""
    iou = np.full(classes, np.nan)
    for number in range(classes):
        true, given = truth == number, predicted == number
        if true.any():
            iou[number] = (true & given).sum() / (true | given).sum()
    return iou


def peak_gigabytes(dense: Dense, width: int, height: int, classes: int, pamr: bool) -> float:
    """Resident memory at its highest while one image is segmented, above what was held before."""
    embeddings = F.normalize(torch.randn(classes, dense.embed_dim), dim=-1)
    segmenter = Segmenter(dense, embeddings, Inference(pamr=pamr))
    image = Image.open(io.BytesIO(photo(0, (width, height)))).convert("RGB")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    segmenter.label_maps([image])
    return (resident("VmHWM") - before) / 1e9


def measure(settings: Settings) -> None:
    """Prints the tables as they come."""
    sources = settings.sources()
    dense = make_dense()
    clock = time.process_time if settings.cpu_time else time.perf_counter
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, ViT-B/16 at 448 px\n")
    print(
        "| an image of 640 x 480 | encoder and projector, ms | outside them, ms | share | at most |"
    )
    print("|---|---:|---:|---:|---:|")
    for classes in (80, 171):
        inside, outside = outside_the_encoder(dense, sources, classes, settings.repeats, clock)
        print(
            f"| {classes} classes and background | {1000 * inside:,.0f} | {1000 * outside:,.0f} "
            f"| {outside / inside:.1%} | {MOST_OUTSIDE:.0%} |"
        )
    print("\n| counting 640 x 480 pixels | ours, ms | loop over classes, ms | times | at least |")
    print("|---|---:|---:|---:|---:|")
    for classes in (21, 171):
        ours, loop = count(classes, 20, clock)
        print(
            f"| {classes} classes | {1000 * ours:.2f} | {1000 * loop:.2f} | {loop / ours:.1f} "
            f"| {LEAST_SPEEDUP} |"
        )
    print("\n| memory above the model, 2048 x 1024, 171 classes | GB | at most |")
    print("|---|---:|---:|")
    for pamr in (False, True):
        peak = peak_gigabytes(dense, 2048, 1024, 171, pamr)
        print(f"| {'with PAMR' if pamr else 'without PAMR'} | {peak:.2f} | {MOST_MEMORY} |")


def count(
    classes: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """Median seconds to count an image's pixels: our way, and by a loop over the classes."""
    truth, predicted = np.random.default_rng(0).integers(0, classes, (2, 480, 640), np.int16)
    matrix = ConfusionMatrix(classes)
    sides = {
        "ours": lambda: matrix.add(truth, predicted),
        "loop": lambda: loop_over_classes(truth, predicted, classes),
    }
    seconds = take_turns(sides, rounds, clock)
    return seconds["ours"], seconds["loop"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, measure, arguments, stopped="stopped")


if __name__ == "__main__":
    sys.exit(main())
