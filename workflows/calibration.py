"""Scale and threshold of Eq. 8 for a model, chosen on scenes that no score counts.

The cosines of a trained projector and of plain CLIP lie in different ranges. With one threshold for both, a
comparison of the two would compare thresholds. So every model gets its own scale and threshold by the same
rule: the best on the same tuning scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.confusion import ConfusionMatrix
from eval.datasets.benchmarks import Benchmark, open_image
from eval.datasets.referring import ReferringSet
from eval.inference.class_embeddings import class_embeddings
from eval.inference.segmenter import Segmenter
from eval.inference.settings import SCALES, SIGMOID, SOFTMAX, Inference
from eval.referring_scores import relative_masks
from training.dense import Dense

SOFTMAX_SCALES = (5.0, 10.0, 20.0, 40.0, 80.0)
THRESHOLDS = tuple(np.arange(0.08, 0.97, 0.04).round(2).tolist())


def for_segmentation(
    dense: Dense,
    tuning: Benchmark,
    inference: Inference,
    softmax_scales: Sequence[float] = SOFTMAX_SCALES,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Inference:
    """`inference` with the scale and the threshold of the highest mIoU on a benchmark.

    Args:
        dense: a run or a baseline.
        tuning: a benchmark with a background.
        inference: all other settings. For `sigmoid`, whose bias goes with its scale, only the threshold
            is chosen.
        softmax_scales, thresholds: what is chosen among.
    """
    embeddings = class_embeddings(dense, tuning.names, inference.templates)
    softmax = inference.probability == SOFTMAX
    scales = softmax_scales if softmax else (inference.scale or SCALES[SIGMOID],)
    model = _LastAnswer(dense)
    segmenters = {
        scale: Segmenter(model, embeddings, replace(inference, scale=scale)) for scale in scales
    }
    matrices = {
        (scale, threshold): ConfusionMatrix(len(tuning.class_names))
        for scale in scales
        for threshold in thresholds
    }
    for key in tuning.keys:
        image, truth = tuning.image(key), tuning.truth(key)
        for scale, segmenter in segmenters.items():
            values = segmenter.probabilities(image)  # (n, height, width)
            label, confidence = values.argmax(0).astype(np.int16) + 1, values.max(0)
            for threshold in thresholds:
                predicted = np.where(confidence < threshold, 0, label).astype(np.int16)
                matrices[scale, threshold].add(truth, predicted)
    scale, threshold = max(matrices, key=lambda pair: matrices[pair].miou)
    return replace(inference, scale=scale, threshold=threshold)


class _LastAnswer:
    """A model that keeps its last answer, so that an image is encoded once for all scales."""

    def __init__(self, dense: Dense):
        self._dense = dense
        self._windows: Tensor | None = None
        self._answer: tuple[Tensor, Tensor] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dense, name)

    def both(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """As `Dense.both`."""
        if self._windows is None or not torch.equal(self._windows, windows):
            self._windows, self._answer = windows, self._dense.both(windows)
        return self._answer


def for_referring(dense: Dense, tuning: ReferringSet, inference: Inference) -> Inference:
    """`inference` with the threshold of the highest mean IoU on a referring set, for rule `relative`.

    Args:
        dense: a run or a baseline.
        tuning: expressions and their masks.
        inference: all other settings.
    """
    overlaps: dict[float, list[float]] = {value: [] for value in THRESHOLDS}
    for image, group in tuning.expressions.items():
        embeddings = class_embeddings(dense, [one.text for one in group], inference.templates)
        picture = open_image(tuning.path(image))
        truths = [tuning.mask(one) for one in group]
        maps = Segmenter(dense, embeddings, inference).similarities(picture)
        for threshold, found in overlaps.items():
            masks = relative_masks(maps, threshold)
            found += [_iou(*pair) for pair in zip(masks, truths, strict=True)]
    best = max(overlaps, key=lambda threshold: float(np.mean(overlaps[threshold])))
    return replace(inference, threshold=best)


def _iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float((predicted & truth).sum() / (predicted | truth).sum())
