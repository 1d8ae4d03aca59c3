"""Mean intersection over union (mIoU) from a confusion matrix.

Shapes: C classes, the background included where the benchmark has one.
"""

from __future__ import annotations

import numpy as np

IGNORE = -1  # the class of pixels that are not scored
ZERO, LEFT_OUT = "zero", "left-out"
ABSENT = (ZERO, LEFT_OUT)  # what a class is in the mean that is predicted but in no mask


class ConfusionMatrix:
    """Number of pixels for each pair of true and predicted class.

    Args:
        classes: C.
        absent: `zero`: the IoU of a class that is predicted but has no truth is 0, as mmsegmentation
            counts it; `left-out`: it is NaN.

    Attributes:
        counts: int64 of shape (C, C); rows are true classes, columns predicted ones.
    """

    def __init__(self, classes: int, absent: str = LEFT_OUT):
        self.absent = absent
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Counts the pixels of one image.

        Args:
            truth: integers of any shape, in [0, C) or `IGNORE`.
            predicted: integers of the same shape, in [0, C) wherever truth is not `IGNORE`.

        Returns:
            the counts of this image alone, int64 of shape (C, C).

        Raises:
            ValueError: the shapes differ, or a class is out of range.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {truth.shape} and the prediction {predicted.shape}")
        classes = len(self.counts)
        if truth.size and (predicted.min() < 0 or predicted.max() >= classes):
            kept = truth != IGNORE  # predictions on ignored pixels are dropped
            truth, predicted = truth[kept], predicted[kept]
        for name, values, least in (("truth", truth, IGNORE), ("prediction", predicted, 0)):
            if values.size and (values.min() < least or values.max() >= classes):
                wrong = values[(values < least) | (values >= classes)].flat[0]
                raise ValueError(f"the {name} holds class {wrong}, outside 0 to {classes - 1}")
        # Ignored pixels are counted in row 0 and dropped, which is cheaper than masking them first.
        cells = truth.ravel().astype(np.int32) - IGNORE  # (pixels,)
        cells *= classes
        cells += predicted.ravel().astype(np.int32, copy=False)
        flat = np.bincount(cells, minlength=(classes + 1) * classes)  # ((C + 1) * C,)
        counts = flat.reshape(classes + 1, classes)[1:]
        self.counts += counts
        return counts

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union per class, float64 of shape (C,).

        NaN for classes that are neither in the truth nor predicted; see `absent` for those predicted.
        """
        both = np.diag(self.counts).astype(np.float64)
        true = self.counts.sum(1)
        either = true + self.counts.sum(0) - both
        counted = either if self.absent == ZERO else true
        return np.divide(both, either, out=np.full(len(both), np.nan), where=counted > 0)

    @property
    def miou(self) -> float:
        """The mean of `iou` over the classes that have one; NaN if there are none."""
        iou = self.iou
        present = ~np.isnan(iou)
        return float(iou[present].mean()) if present.any() else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """The share of counted pixels that are correct; NaN if none were counted."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")


def to_sparse(counts: np.ndarray) -> list[list[int]]:
    """The non-zero counts of one image as [true, predicted, pixels]; few of the C * C are."""
    true, predicted = np.nonzero(counts)
    return np.stack([true, predicted, counts[true, predicted]], 1).tolist()


def from_sparse(entries: list[list[int]], classes: int) -> np.ndarray:
    """Counts of shape (C, C) from `to_sparse`'s entries.

    Raises:
        ValueError: an entry's class is out of range.
    """
    counts = np.zeros((classes, classes), np.int64)
    for true, predicted, pixels in entries:
        if not (0 <= true < classes and 0 <= predicted < classes):
            raise ValueError(f"counts of classes {true} and {predicted}, but there are {classes}")
        counts[true, predicted] = pixels
    return counts
