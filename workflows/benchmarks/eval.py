"""What segmenting costs beside the encoder, counting beside a loop over classes, and memory.

    python workflows/benchmarks/eval.py [--images FOLDER]

The encoder is ViT-B/16 with random weights, along CLIP Surgery's path and with a projector: time and
memory don't depend on what weights say. Images are JPEGs of 640 x 480 pixels, drawn here unless a
folder is given; each goes through all that `eval/segment.py` does with it: reading, resizing,
windows, Eq. 7 and 8, upsampling, background, reading the mask, counting. What others do on the machine
misleads it: OMP_NUM_THREADS=1 makes figures that can be had again.
"""

from __future__ import annotations

import argparse
import gc
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.nn import functional as F

from eval.benchmarks import open_image, read_mask
from eval.confusion import ConfusionMatrix
from eval.segmenter import Inference, Segmenter
from training.clip import Clip
from training.dense import Dense
from training.projector import Projector

MOST_OUTSIDE = 0.20  # of the encoder's own time
LEAST_SPEEDUP = 5
MOST_MEMORY = 1.5  # GB above the model


def make_dense() -> Dense:
    """A run's encoder and head, with random weights."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16", load_weights=False)
    clip = Clip(model, open_clip.get_tokenizer("ViT-B-16"), "random ViT-B-16")
    return Dense("random", clip, Projector(clip.visual, 2, 3))


def make_jpeg(width: int, height: int, seed: int) -> bytes:
    """Blobs of colour with noise, which cost a decoder what photographs do."""
    random = np.random.default_rng(seed)
    blobs = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
    array = np.array(blobs.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    array += random.normal(0, 8, array.shape).astype(np.int16)
    sink = io.BytesIO()
    Image.fromarray(array.clip(0, 255).astype(np.uint8)).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def make_mask(size: tuple[int, int], classes: int) -> io.BytesIO:
    """A PNG of blocks of classes."""
    blocks = np.random.default_rng(0).integers(0, classes + 1, (6, 8), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(sink, "PNG")
    return sink


def outside_the_encoder(
    dense: Dense, sources: list[io.BytesIO | Path], classes: int, repeats: int
) -> tuple[float, float]:
    """Median seconds for an image, in the encoder and outside it.

    Args:
        dense: the model.
        sources: images.
        classes: how many names there are, beside a background.
        repeats: passes over the images.
    """
    embeddings = F.normalize(torch.randn(classes, dense.embed_dim), dim=-1)
    segmenter = Segmenter(dense, embeddings, Inference(batch=2), background=0.1)
    matrix = ConfusionMatrix(classes + 1)
    masks = [make_mask(open_image(source).size, classes) for source in sources]
    spent = [0.0]
    original = dense.both

    def timed(windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        start = time.perf_counter()
        result = original(windows)
        spent[0] += time.perf_counter() - start
        return result

    inside, outside = [], []
    dense.both = timed
    try:
        for repeat in range(repeats + 1):
            for number, source in enumerate(sources):
                spent[0], start = 0.0, time.perf_counter()
                image = open_image(source)
                labels = segmenter.label_maps([image])[0]
                masks[number].seek(0)
                truth = read_mask(masks[number]).astype(np.int16)
                matrix.add(truth, labels)
                whole = time.perf_counter() - start
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


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def peak_gigabytes(dense: Dense, width: int, height: int, classes: int, pamr: bool) -> float:
    """Resident memory at its highest while one image is segmented, above what was held before."""
    embeddings = F.normalize(torch.randn(classes, dense.embed_dim), dim=-1)
    segmenter = Segmenter(dense, embeddings, Inference(pamr=pamr))
    image = Image.open(io.BytesIO(make_jpeg(width, height, 0))).convert("RGB")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _status("VmRSS")
    segmenter.label_maps([image])
    return (_status("VmHWM") - before) / 1e9


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of JPEGs (default: drawn ones)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    settings = parser.parse_args()
    sources = [io.BytesIO(make_jpeg(640, 480, seed)) for seed in range(4)]
    if settings.images:
        sources = sorted(settings.images.glob("*.jpg"))[:4]
    dense = make_dense()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, ViT-B/16 at 448 px\n")
    print(
        "| an image of 640 x 480 | encoder and projector, ms | outside them, ms | share | at most |"
    )
    print("|---|---:|---:|---:|---:|")
    for classes in (80, 171):
        inside, outside = outside_the_encoder(dense, sources, classes, settings.repeats)
        print(
            f"| {classes} classes and background | {1000 * inside:,.0f} | {1000 * outside:,.0f} "
            f"| {outside / inside:.1%} | {MOST_OUTSIDE:.0%} |"
        )
    print("\n| counting 640 x 480 pixels | ours, ms | loop over classes, ms | times | at least |")
    print("|---|---:|---:|---:|---:|")
    for classes in (21, 171):
        random = np.random.default_rng(0)
        truth, predicted = random.integers(0, classes, (2, 480, 640), np.int16)
        matrix = ConfusionMatrix(classes)
        ours = median_seconds(lambda m=matrix, t=truth, p=predicted: m.add(t, p), 20)
        loop = median_seconds(lambda t=truth, p=predicted, c=classes: loop_over_classes(t, p, c), 5)
        print(
            f"| {classes} classes | {1000 * ours:.2f} | {1000 * loop:.2f} | {loop / ours:.1f} "
            f"| {LEAST_SPEEDUP} |"
        )
    print("\n| memory above the model, 2048 x 1024, 171 classes | GB | at most |")
    print("|---|---:|---:|")
    for pamr in (False, True):
        peak = peak_gigabytes(dense, 2048, 1024, 171, pamr)
        print(f"| {'with PAMR' if pamr else 'without PAMR'} | {peak:.2f} | {MOST_MEMORY} |")


if __name__ == "__main__":
    main()
