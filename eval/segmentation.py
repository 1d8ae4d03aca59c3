"""Runs a benchmark: segments every image, counts its pixels by class, and sums up.

Shapes: C classes, the background included where the benchmark has one.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from eval.datasets.benchmark_list import open_benchmark
from eval.datasets.benchmarks import BadImage, Benchmark
from eval.datasets.class_names import ClassNames, class_names
from eval.inference.class_embeddings import class_embeddings
from eval.inference.protocols import normalisation_for, on_benchmark, used
from eval.inference.segmenter import Labeller, Segmenter
from eval.inference.settings import Inference
from eval.pictures import draw_overlays
from eval.records import Records, resume
from eval.segmentation_report import Result, class_rows
from eval.settings import SegmentSettings, benchmark_label
from training.dense import Dense, load_dense
from training.distributed import from_all_ranks, process_group, rank, sum_over_ranks, world_size

RESULT = "result.json"
OVERLAYS = "overlays"
_SHOWN_BAD = 3


def evaluate(settings: SegmentSettings) -> list[Result]:
    """Scores runs on benchmarks; under torchrun, the ranks share the images.

    All data folders are checked before a model is loaded. Each result is written to `settings.out`
    as soon as it is complete.

    Returns:
        one result per run and benchmark, on every rank.

    Raises:
        UserError: see `open_benchmark`, `Question`, `load_dense`, `Segmenter` and `Records`.
    """
    opened = [open_benchmark(name, Path(settings.data)) for name in settings.benchmarks]
    questions = [Question.of(benchmark, settings.inference) for benchmark in opened]
    results = []
    with process_group() as device:
        for note in (note for one in opened for note in one.notes if rank() == 0):
            print(f"note: {note}", file=sys.stderr)
        for run in settings.runs:
            about = (settings.model, settings.weights, settings.quick_gelu)
            dense = load_dense(run, device, *about, normalisation_for(settings.inference, run))
            results += [_evaluate_one(dense, run, question, settings) for question in questions]
    return results


@dataclass(frozen=True)
class Question:
    """A benchmark, and how a model is asked for its classes.

    Attributes:
        benchmark: images and ground truth.
        names: of the classes.
        inference: the settings for this benchmark.
        threshold: below which a pixel is background; None without one.
    """

    benchmark: Benchmark
    names: ClassNames
    inference: Inference
    threshold: float | None

    @classmethod
    def of(cls, benchmark: Benchmark, inference: Inference) -> Question:
        """The question that a protocol asks of a benchmark.

        Raises:
            UserError: as `class_names`, or the threshold could never act.
        """
        about = benchmark.description
        inference = on_benchmark(inference, about.name)
        names = class_names(benchmark, inference.names, inference.background)
        if not about.background or (names.words and inference.threshold is None):
            return cls(benchmark, names, inference, None)
        threshold = inference.threshold_of(about.threshold)
        if inference.threshold is None and about.own and about.threshold is not None:
            threshold = about.threshold
        if not names.words:
            inference.check_threshold(threshold, len(names.all))
        return cls(benchmark, names, inference, threshold)

    def segmenter(self, dense: Dense, cache: Folder | None) -> Segmenter:
        """What answers it with a model; `cache` keeps the embeddings of names."""
        embeddings = class_embeddings(dense, self.names.all, self.inference.templates, cache)
        return Segmenter(dense, embeddings, self.inference, self.threshold, self.names.owners)


def _evaluate_one(dense: Dense, run: str, question: Question, settings: SegmentSettings) -> Result:
    benchmark = question.benchmark
    about = benchmark.description
    segmenter = question.segmenter(dense, Folder(settings.cache) if rank() == 0 else None)
    values = {
        "benchmark": about.name,
        "run": run,
        "step": dense.step,
        "model": dense.encoder.name,
        "fingerprint": fingerprint(dense),
        "classes": list(benchmark.class_names),
        "truth": benchmark.truth_from,
        "names": digest(question.names.all),
        "inference": used(question.inference, dense).to_json() | {"threshold": question.threshold},
        "limit": settings.limit,
    }
    if about.own:  # another folder may have the same name
        values["set of masks"] = digest(benchmark.contents)
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
    settings: SegmentSettings,
    label: str,
) -> Result:
    """Counts the images of a benchmark that an earlier run has not counted, and sums up.

    Args:
        labeller: predicts classes.
        benchmark: images and ground truth.
        folder: where the counts are kept.
        values: everything that the counts depend on; counts made with other values are refused.
        settings: `limit`, `workers`, `overwrite` and `inference.batch` are used.
        label: the run's name in tables.

    Raises:
        UserError: see `Records`.
    """
    names = benchmark.class_names
    keys = list(benchmark.keys)[: settings.limit]
    records, total, done = resume(folder, values, len(names), keys, settings.overwrite)
    matrix = ConfusionMatrix(len(names), settings.inference.absent)
    matrix.counts += total
    mine = [key for key in keys if key not in done][rank() :: world_size()]
    bad = _count(labeller, benchmark, mine, matrix, records, settings)
    matrix.counts = sum_over_ranks(torch.from_numpy(matrix.counts)).numpy()  # int64 (C, C)
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


def earlier_results(settings: SegmentSettings) -> list[Result]:
    """Results of other runs on the same benchmarks, read from `settings.out`.

    Raises:
        UserError: a result file is damaged.
    """
    now = {settings.label(run) for run in settings.runs}
    names = set(map(benchmark_label, settings.benchmarks))
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
    """Hex digest of all weights, frozen and trained, and of the path that reads patch tokens."""
    digest = xxhash.xxh3_128(f"{dense.encoder.fingerprint} {dense.path}".encode())
    for name, tensor in sorted((dense.head.state_dict() if dense.head else {}).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def digest(names: Sequence[str]) -> str:
    """Hex digest of names, in their order."""
    return xxhash.xxh3_64_hexdigest("\n".join(names).encode())


def complaint(results: Sequence[Result], out: str) -> str | None:
    """One sentence about the images that could not be scored; None if there are none."""
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
    return f"{'; '.join(parts)}, and are not in the figures of {out}"


def _count(
    labeller: Labeller,
    benchmark: Benchmark,
    keys: Sequence[str],
    matrix: ConfusionMatrix,
    records: Records,
    settings: SegmentSettings,
) -> list[dict[str, str]]:
    """Counts images into the matrix and the records.

    Returns:
        the images that could not be scored, each with the reason.
    """
    bad = []
    group: list[tuple[str, Image.Image, np.ndarray]] = []
    size = max(
        1, settings.inference.batch // 2
    )  # most images have two windows, so this fills a batch

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
    """Maps a function over items in threads, in order.

    Args:
        work: the function.
        items: its arguments.
        threads: number of threads.
        depth: how many results are computed in advance.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
