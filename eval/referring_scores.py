"""Mean and overall IoU of the masks that a run gives to expressions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.storage import Folder
from eval.confusion import ConfusionMatrix
from eval.datasets.benchmarks import BadImage, open_image
from eval.datasets.referring import Expression, ReferringSet
from eval.inference.class_embeddings import class_embeddings
from eval.inference.segmenter import Segmenter
from eval.inference.settings import Inference
from eval.records import resume
from training.dense import Dense
from training.distributed import from_all_ranks, rank, world_size

ABSOLUTE, RELATIVE = "absolute", "relative"
RULES = {ABSOLUTE: 0.4, RELATIVE: 0.5}  # which pixels an expression means, and the usual threshold


@dataclass(frozen=True)
class MeanAndOverall:
    """The two common figures.

    Attributes:
        mean: of the IoU of each expression.
        overall: the sum of intersections by the sum of unions.
        expressions: how many were counted.
        bad: (expression, why) of those that could not be.
        partial: whether only some of the benchmark's images were asked for.
    """

    mean: float
    overall: float
    expressions: int
    bad: list[tuple[str, str]]
    partial: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: what has no value is null."""
        counted = self.expressions > 0
        return {
            "mean_iou": self.mean if counted else None,
            "overall_iou": self.overall if counted else None,
            "expressions": self.expressions,
            "bad": [{"expression": key, "why": why} for key, why in self.bad],
            "partial": self.partial,
        }


def figures(counts: np.ndarray, bad: list[tuple[str, str]], partial: bool) -> MeanAndOverall:
    """Both figures from the confusion matrices of N expressions.

    Args:
        counts: int of shape (N, 2, 2): rows are the truth, columns the prediction; class 1 is the mask.
        bad, partial: see `MeanAndOverall`.
    """
    both = counts[:, 1, 1]
    either = both + counts[:, 0, 1] + counts[:, 1, 0]
    if not len(counts):
        return MeanAndOverall(float("nan"), float("nan"), 0, bad, partial)
    mean = float((both / either).mean())  # no truth is empty, so no union is
    return MeanAndOverall(mean, float(both.sum() / either.sum()), len(counts), bad, partial)


def mask_of(segmenter: Segmenter, rule: str, picture: Image.Image) -> np.ndarray:
    """The pixels that each expression means.

    Args:
        segmenter: of the expressions, n of them; its threshold is the rule's.
        rule: `absolute`: Eq. 8's sigmoid form reaches the threshold; or `relative`: the similarity of
            Eq. 7 does, once its least and largest value in this image are 0 and 1.
        picture: of height x width pixels.

    Returns:
        bool of shape (n, height, width).
    """
    threshold = segmenter.inference.threshold
    if threshold is None:
        threshold = RULES[rule]
    if rule == ABSOLUTE:
        return segmenter.probabilities(picture) >= threshold
    return relative_masks(segmenter.similarities(picture), threshold)


def relative_masks(similarities: np.ndarray, threshold: float) -> np.ndarray:
    """Where similarities reach a share of the way from their least to their largest value.

    Args:
        similarities: of shape (n, height, width), each of the n by itself.
        threshold: in [0, 1].

    Returns:
        bool of the same shape.
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
    """Masks for all expressions that were not counted before; an image is encoded once for all its own.

    Args:
        dense: a run or a baseline.
        data: images, expressions and masks.
        inference: of probability `sigmoid`.
        rule: a key of `RULES`.
        folder: where counts are kept, by expression.
        values: all that the counts depend on.
        limit: only so many images.
        overwrite: lose what was counted before.
        cache: for embeddings, kept by the first rank.

    Raises:
        UserError: see `Records` and `Segmenter`.
    """
    images = dict(list(data.expressions.items())[:limit])
    expressions = [one for group in images.values() for one in group]
    keys = [one.key for one in expressions]
    records, _, done = resume(folder, values, 2, keys, overwrite)
    texts = [one.text for one in expressions]
    embeddings = class_embeddings(dense, texts, inference.templates, cache if rank() == 0 else None)
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
    bad = sorted(one for part in from_all_ranks(bad) for one in part)  # every rank is done here
    counted = from_all_ranks(records.read() if rank() == 0 else None)[0]
    counts = [records.total({key: counted[key]}) for key in keys if key in counted]
    stacked = np.array(counts, np.int64).reshape(-1, 2, 2)
    return figures(stacked, bad, partial=len(images) < len(data.expressions))


def _count(
    segmenter: Segmenter,
    rule: str,
    data: ReferringSet,
    image: int,
    group: list[Expression],
    bad: list[tuple[str, str]],
) -> list[tuple[str, np.ndarray]]:
    """The counts of an image's expressions; those that cannot be scored are added to `bad`."""
    try:
        picture = open_image(data.path(image))
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
            why = f"its mask is for {truth.shape[::-1]} pixels, and the image has {picture.size}"
            bad.append((one.key, why))
            continue
        matrix = ConfusionMatrix(2)
        found.append((one.key, matrix.add(truth.astype(np.int8), mask)))
    return found
