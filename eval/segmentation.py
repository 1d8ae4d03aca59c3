"""Runs benchmarks: every image through the segmenter, counted, kept and summed up."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from PIL import Image
from tqdm import tqdm

from common.errors import UserError
from common.storage import Folder
from eval.confusion import ConfusionMatrix
from eval.datasets.benchmark_list import BENCHMARKS, check_name, open_benchmark
from eval.datasets.benchmarks import BadImage, Benchmark
from eval.inference.class_embeddings import class_embeddings
from eval.inference.segmenter import Segmenter
from eval.inference.settings import Inference
from eval.pictures import Labeller, draw_overlays
from eval.records import Records, resume
from eval.segmentation_report import Result, class_rows
from training.dense import BASELINES, Dense, load_dense
from training.distributed import from_all_ranks, process_group, rank, sum_over_ranks, world_size

RESULT = "result.json"
OVERLAYS = "overlays"
_SHOWN_BAD = 3


@dataclass(frozen=True)
class Settings:
    """An evaluation.

    Attributes:
        runs: folders of runs, or baselines of `training.dense.BASELINES`; each is scored on its own.
        benchmarks: names of `BENCHMARKS`, or folders that describe themselves.
        data: the folder that holds the data sets.
        inference: see there.
        out: results go to `OUT/NAME/BENCHMARK`.
        name: the run's in tables and folders; None takes the run's own.
        cache: a folder for class embeddings.
        model, weights, quick_gelu: as for `load_dense`.
        limit: only the first images of each benchmark.
        overlays: how many images are drawn with their classes.
        workers: threads that read images.
        overwrite: lose results of other settings that stand there.
    """

    runs: tuple[str, ...]
    benchmarks: tuple[str, ...]
    data: str
    inference: Inference = field(default_factory=Inference)
    out: str = "data/eval"
    name: str | None = None
    cache: str = "data/cache"
    model: str | None = None
    weights: str | None = None
    quick_gelu: bool | None = None
    limit: int | None = None
    overlays: int = 8
    workers: int = 4
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.benchmarks:
            raise UserError(f"no benchmark named: choose from {', '.join(BENCHMARKS)}")
        for name in self.benchmarks:
            check_name(name)
            if self.benchmarks.count(name) > 1:
                raise UserError(f"the benchmark {name} is named twice")
        for flag, value, least in (
            ("--limit", self.limit, 1),
            ("--overlays", self.overlays, 0),
            ("--workers", self.workers, 1),
        ):
            if value is not None and value < least:
                raise UserError(f"{flag} is at least {least}, not {value}")
        if not self.runs:
            raise UserError("no run named (--run)")
        if self.name is not None and (not self.name or "/" in self.name or len(self.runs) > 1):
            raise UserError(f"--name is the name of one run's folder, not '{self.name}'")
        labels = [self.label(run) for run in self.runs]
        for label in labels:
            if labels.count(label) > 1:
                raise UserError(f"two runs would be called {label}: score them one by one (--name)")

    def label(self, run: str) -> str:
        """A run's name in tables and folders."""
        if self.name is not None:
            return self.name
        return run if run in BASELINES else Path(run).resolve().name


def evaluate(settings: Settings) -> list[Result]:
    """Scores runs on benchmarks; under torchrun, ranks share the images.

    All folders are checked before the model is loaded. Results stand in `settings.out` as they come.

    Returns:
        one result for each run and benchmark, on every rank.

    Raises:
        UserError: see `open_benchmark`, `load_dense`, `Segmenter` and `Records`.
    """
    opened = [open_benchmark(name, Path(settings.data)) for name in settings.benchmarks]
    results = []
    with process_group() as device:
        for run in settings.runs:
            dense = load_dense(run, device, settings.model, settings.weights, settings.quick_gelu)
            results += [_evaluate_one(dense, run, benchmark, settings) for benchmark in opened]
    return results


def _evaluate_one(dense: Dense, run: str, benchmark: Benchmark, settings: Settings) -> Result:
    about = benchmark.description
    threshold = settings.inference.threshold_of(about.threshold) if about.background else None
    embeddings = class_embeddings(
        dense,
        benchmark.names,
        settings.inference.templates,
        Folder(settings.cache) if rank() == 0 else None,
    )
    segmenter = Segmenter(dense, embeddings, settings.inference, threshold)
    values = {
        "benchmark": about.name,
        "run": run,
        "step": dense.step,
        "model": dense.encoder.name,
        "fingerprint": fingerprint(dense),
        "classes": list(benchmark.class_names),
        "inference": settings.inference.to_json() | {"threshold": threshold},
        "limit": settings.limit,
    }
    label = settings.label(run)
    folder = Folder(settings.out).sub(label).sub(about.name)
    result = score(segmenter, benchmark, folder, values, settings, label)
    if rank() == 0:
        folder.write_json(RESULT, result.to_json())
        draw_overlays(segmenter, benchmark, folder.sub(OVERLAYS), settings.overlays)
    return result


def score(
    labeller: Labeller,
    benchmark: Benchmark,
    folder: Folder,
    values: dict[str, Any],
    settings: Settings,
    label: str,
) -> Result:
    """Counts every image of a benchmark that was not counted before.

    Args:
        labeller: gives pixels classes.
        benchmark: images and truth.
        folder: where counts are kept.
        values: all that the counts depend on.
        settings: `limit`, `workers`, `overwrite` and `inference.batch` count here.
        label: the run's name.

    Raises:
        UserError: see `Records`.
    """
    names = benchmark.class_names
    keys = list(benchmark.keys)[: settings.limit]
    records, total, done = resume(folder, values, len(names), keys, settings.overwrite)
    matrix = ConfusionMatrix(len(names))
    matrix.counts += total
    mine = [key for key in keys if key not in done][rank() :: world_size()]
    bad = _count(labeller, benchmark, mine, matrix, records, settings)
    matrix.counts = sum_over_ranks(torch.from_numpy(matrix.counts)).numpy()
    bad = sorted(
        (one for part in from_all_ranks(bad) for one in part), key=lambda one: one["image"]
    )
    return Result(
        benchmark=benchmark.description.name,
        title=benchmark.description.title,
        run=label,
        settings=values,
        images=len(keys) - len(bad),
        miou=matrix.miou,
        pixel_accuracy=matrix.pixel_accuracy,
        classes=class_rows(matrix, names),
        bad=bad,
        partial=len(keys) < len(benchmark),
    )


def earlier_results(settings: Settings) -> list[Result]:
    """Results of other runs on these benchmarks that stand in `settings.out`."""
    now = {settings.label(run) for run in settings.runs}
    names = {Path(one).resolve().name for one in settings.benchmarks}
    found = []
    for path in sorted(Path(settings.out).glob(f"*/*/{RESULT}")):
        label, benchmark = path.parts[-3:-1]
        if label not in now and benchmark in names:
            try:
                found.append(Result.from_json(json.loads(path.read_text("utf-8"))))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path} is damaged: {error}") from error
    return found


def fingerprint(dense: Dense) -> str:
    """Hex digest of the weights, trained or not, and of how patch tokens are read."""
    digest = xxhash.xxh3_128(f"{dense.encoder.fingerprint} {dense.path}".encode())
    for name, tensor in sorted((dense.head.state_dict() if dense.head else {}).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def complaint(results: Sequence[Result], out: str) -> str | None:
    """One sentence on the images that could not be scored; None where there are none."""
    parts = []
    for result in results:
        if result.bad:
            shown = [f"{one['image']} ({one['why']})" for one in result.bad[:_SHOWN_BAD]]
            more = len(result.bad) - len(shown)
            parts.append(
                f"{len(result.bad):,} of {result.images + len(result.bad):,} images of "
                f"{result.title} could not be scored: {'; '.join(shown)}"
                + (f"; and {more:,} more" if more else "")
            )
    if not parts:
        return None
    return f"{'; '.join(parts)}: the figures in {out} leave them out"


def _count(
    labeller: Labeller,
    benchmark: Benchmark,
    keys: Sequence[str],
    matrix: ConfusionMatrix,
    records: Records,
    settings: Settings,
) -> list[dict[str, str]]:
    """Adds these images to the matrix and the records; gives those that could not be scored."""
    bad = []
    group: list[tuple[str, Image.Image, np.ndarray]] = []
    size = max(1, settings.inference.batch // 2)  # most images have two windows

    def finish() -> None:
        new = []
        maps = labeller.label_maps([image for _, image, _ in group])
        for (key, _, truth), predicted in zip(group, maps, strict=True):
            new.append((key, matrix.add(truth, predicted)))
        records.add(new)
        group.clear()

    loaded = ahead(lambda key: _load(benchmark, key), keys, settings.workers, 2 * size)
    progress = tqdm(
        loaded,
        total=len(keys),
        desc=benchmark.description.name,
        unit="image",
        disable=rank() > 0 or not sys.stderr.isatty(),
    )
    for key, image, truth, why in progress:
        if why is not None:
            bad.append({"image": key, "why": why})
            continue
        group.append((key, image, truth))
        if len(group) == size:
            finish()
    if group:
        finish()
    return bad


def _load(
    benchmark: Benchmark, key: str
) -> tuple[str, Image.Image | None, np.ndarray | None, str | None]:
    try:
        image, truth = benchmark.image(key), benchmark.truth(key)
    except BadImage as error:
        return key, None, None, str(error)
    if truth.shape != image.size[::-1]:
        height, width = truth.shape
        why = f"its mask is {width} x {height} pixels, and the image {image.width} x {image.height}"
        return key, None, None, why
    return key, image, truth, None


def ahead(work: Any, items: Iterable[Any], threads: int, depth: int) -> Iterator[Any]:
    """The results of a function in the order of its items, a few of them made ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
