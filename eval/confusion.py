"""Mean intersection over union from one confusion matrix."""

from __future__ import annotations

import numpy as np

IGNORE = -1  # the class of pixels that count for nothing


class ConfusionMatrix:
    """How many pixels of each true class were given each class.

    Args:
        classes: C, the background included where the benchmark has one.

    Attributes:
        counts: int64 of shape (C, C); rows are the truth, columns what was predicted.
    """

    def __init__(self, classes: int):
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Counts the pixels of one image.

        Args:
            truth: integers of any shape, in [0, C) or `IGNORE`.
            predicted: integers of the same shape, in [0, C) wherever truth is not `IGNORE`.

        Returns:
            this image's own counts, int64 of shape (C, C).

        Raises:
            ValueError: another shape, or a class that is not there.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {truth.shape} and the prediction {predicted.shape}")
        classes = len(self.counts)
        if truth.size and (predicted.min() < 0 or predicted.max() >= classes):
            kept = truth != IGNORE  # what was predicted elsewhere is nobody's business
            truth, predicted = truth[kept], predicted[kept]
        for name, values, least in (("truth", truth, IGNORE), ("prediction", predicted, 0)):
            if values.size and (values.min() < least or values.max() >= classes):
                wrong = values[(values < least) | (values >= classes)].flat[0]
                raise ValueError(f"the {name} holds class {wrong}, outside 0 to {classes - 1}")
        # Ignored pixels get a row of their own, which is cheaper than leaving them out.
        cells = truth.ravel().astype(np.int32) - IGNORE
        cells *= classes
        cells += predicted.ravel().astype(np.int32, copy=False)
        flat = np.bincount(cells, minlength=(classes + 1) * classes)
        counts = flat.reshape(classes + 1, classes)[1:]
        self.counts += counts
        return counts

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union per class, float64 of shape (C,); NaN where the truth has none."""
        both = np.diag(self.counts).astype(np.float64)
        true = self.counts.sum(1)
        either = true + self.counts.sum(0) - both
        return np.divide(both, either, out=np.full(len(both), np.nan), where=true > 0)

    @property
    def miou(self) -> float:
        """The mean of `iou` over the classes that the truth has; NaN where it has none at all."""
        iou = self.iou
        present = ~np.isnan(iou)
        return float(iou[present].mean()) if present.any() else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """The share of counted pixels that are right; NaN where none were counted."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")


def to_sparse(counts: np.ndarray) -> list[list[int]]:
    """Counts of one image as [true, predicted, pixels] of what is not 0: few of C * C are."""
    true, predicted = np.nonzero(counts)
    return np.stack([true, predicted, counts[true, predicted]], 1).tolist()


def from_sparse(entries: list[list[int]], classes: int) -> np.ndarray:
    """Undoes `to_sparse`.

    Raises:
        ValueError: an entry outside the classes.
    """
    counts = np.zeros((classes, classes), np.int64)
    for true, predicted, pixels in entries:
        if not (0 <= true < classes and 0 <= predicted < classes):
            raise ValueError(f"counts of class {true} and {predicted}, where there are {classes}")
        counts[true, predicted] = pixels
    return counts
