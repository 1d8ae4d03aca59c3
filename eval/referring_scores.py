"""Mean and overall IoU of the masks that a run predicts for referring expressions.

Shapes: N expressions of a benchmark, n of one image; H, W height and width of an image in pixels.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.storage import Folder
from eval.confusion import ConfusionMatrix
from eval.datasets.benchmarks import BadImage
from eval.datasets.referring import Expression, ReferringSet
from eval.inference.class_embeddings import class_embeddings
from eval.inference.segmenter import Segmenter
from eval.inference.settings import Inference
from eval.records import resume
from training.dense import Dense
from training.distributed import from_all_ranks, rank, world_size

ABSOLUTE, RELATIVE = "absolute", "relative"
RULES = {ABSOLUTE: 0.4, RELATIVE: 0.5}  # how similarities become a mask: the default thresholds


@dataclass(frozen=True)
class MeanAndOverall:
    """The two usual figures of referring segmentation.

    Attributes:
        mean: mean of the expressions' IoU.
        overall: sum of the intersections divided by the sum of the unions, in pixels.
        expressions: number of scored expressions.
        bad: (expression, reason) of those that could not be scored.
        partial: whether only some of the benchmark's images were scored.
        protocol: one line that states every step from image to mask.
    """

    mean: float
    overall: float
    expressions: int
    bad: list[tuple[str, str]]
    partial: bool = False
    protocol: str = ""

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON; a figure of no expressions is null."""
        counted = self.expressions > 0
        return {
            "mean_iou": self.mean if counted else None,
            "overall_iou": self.overall if counted else None,
            "expressions": self.expressions,
            "bad": [{"expression": key, "why": why} for key, why in self.bad],
            "partial": self.partial,
        }


def figures(counts: np.ndarray, bad: list[tuple[str, str]], partial: bool) -> MeanAndOverall:
    """Computes both figures from the confusion matrices of the expressions.

    Args:
        counts: integers of shape (N, 2, 2); rows are true classes, columns predicted ones, and class 1
            is the mask.
        bad, partial: see `MeanAndOverall`.
    """
    both = counts[:, 1, 1]  # (N,)
    either = both + counts[:, 0, 1] + counts[:, 1, 0]
    if not len(counts):
        return MeanAndOverall(float("nan"), float("nan"), 0, bad, partial)
    mean = float((both / either).mean())  # no union is empty, as no true mask is
    return MeanAndOverall(mean, float(both.sum() / either.sum()), len(counts), bad, partial)


def mask_of(segmenter: Segmenter, rule: str, picture: Image.Image) -> np.ndarray:
    """Predicts the masks of an image's expressions.

    Args:
        segmenter: its classes are the n expressions.
        rule: `absolute`: pixels where the sigmoid form of Eq. 8 reaches the threshold; `relative`:
            pixels where the similarity of Eq. 7, scaled to [0, 1] in the image, reaches the threshold.
        picture: the image, W x H pixels.

    Returns:
        bool of shape (n, H, W).
    """
    threshold = segmenter.inference.threshold
    if threshold is None:
        threshold = RULES[rule]
    if rule == ABSOLUTE:
        return segmenter.probabilities(picture) >= threshold
    return relative_masks(segmenter.similarities(picture), threshold)


def relative_masks(similarities: np.ndarray, threshold: float) -> np.ndarray:
    """Masks of the pixels whose similarity, scaled to [0, 1], reaches a threshold.

    Args:
        similarities: floats of shape (n, H, W); each of the n maps is scaled separately.
        threshold: in [0, 1].

    Returns:
        bool of shape (n, H, W).
    """
    least, most = (f(similarities, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    return similarities - least >= threshold * (most - least)


def score(
    dense: Dense,
    data: ReferringSet,
    inference: Inference,
    rule: str,
    folder: Folder,
    values: dict[str, Any],
    limit: int | None = None,
    overwrite: bool = False,
    cache: Folder | None = None,
) -> MeanAndOverall:
    """Scores the expressions that an earlier run has not scored, and sums up.

    Each image is encoded once for all its expressions.

    Args:
        dense: a run or a baseline.
        data: images, expressions and masks.
        inference: with probability `sigmoid`.
        rule: a key of `RULES`.
        folder: where the counts are kept, by expression.
        values: everything that the counts depend on; counts made with other values are refused.
        limit: score only the first so many images.
        overwrite: discard earlier counts.
        cache: folder for text embeddings, written by the first rank.

    Raises:
        UserError: see `Records` and `Segmenter`.
    """
    images = dict(list(data.expressions.items())[:limit])
    expressions = [one for group in images.values() for one in group]
    keys = [one.key for one in expressions]
    records, _, done = resume(folder, values, 2, keys, overwrite)
    texts = [one.text for one in expressions]
    cache = cache if rank() == 0 else None
    embeddings = class_embeddings(dense, texts, inference.templates, cache)  # (N, D)
    row = {key: place for place, key in enumerate(keys)}
    todo = [
        (image, left)
        for image, group in images.items()
        if (left := [one for one in group if one.key not in done])
    ][rank() :: world_size()]
    bad: list[tuple[str, str]] = []
    for image, group in tqdm(
        todo, desc=data.name, unit="image", disable=rank() > 0 or not sys.stderr.isatty()
    ):
        classes = embeddings[[row[one.key] for one in group]]
        segmenter = Segmenter(dense, classes, inference)
        records.add(_count(segmenter, rule, data, image, group, bad))
    # The gathering also waits until all ranks have written their counts.
    bad = sorted(one for part in from_all_ranks(bad) for one in part)
    counted = from_all_ranks(records.read() if rank() == 0 else None)[0]
    counts = [records.total({key: counted[key]}) for key in keys if key in counted]
    stacked = np.array(counts, np.int64).reshape(-1, 2, 2)  # (N, 2, 2)
    return figures(stacked, bad, partial=len(images) < len(data.expressions))


def _count(
    segmenter: Segmenter,
    rule: str,
    data: ReferringSet,
    image: int,
    group: list[Expression],
    bad: list[tuple[str, str]],
) -> list[tuple[str, np.ndarray]]:
    """Counts of an image's expressions; those that cannot be scored are appended to `bad`."""
    try:
        picture = data.picture(image)
    except BadImage as error:
        bad += [(one.key, str(error)) for one in group]
        return []
    found = []
    for one, mask in zip(group, mask_of(segmenter, rule, picture), strict=True):
        try:
            truth = data.mask(one)
        except BadImage as error:
            bad.append((one.key, str(error)))
            continue
        if truth.shape != mask.shape:
            why = f"its mask is for {truth.shape[::-1]} pixels, but the image has {picture.size}"
            bad.append((one.key, why))
            continue
        matrix = ConfusionMatrix(2)
        found.append((one.key, matrix.add(truth.astype(np.int8), mask)))
    return found
