"""Segments images by class names (the paper's section on inference).

    similarity  s_c = cosine of a patch's feature and the embedding of class c
    Eq. 7       s = (1 - w) s_trained + w s_CLIP
    Eq. 8       p = softmax over classes of (scale * s), or sigmoid(scale * s + bias) of each
                background where no p reaches the threshold

p is computed per patch and upsampled; overlapping windows are averaged. s_CLIP is the frozen
encoder's similarity along the path that the run was trained on, by default `surgery`. The authors'
code blends the two p instead of the two s; `Inference.blend` chooses. Of a class with several names the
best at each pixel counts. `Inference.eq8` moves Eq. 8 to the result's pixels, after windows are averaged.

Shapes: B windows, m names of n classes, D joint width; H, W a window's size in pixels, h, w in patches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from eval.inference.owners import Owners
from eval.inference.pamr import CLASSES_AT_ONCE, refine
from eval.inference.resizing import enlarge, reduced, resized_size, to_pixels
from eval.inference.settings import PATCH, SIMILARITY, SOFTMAX, WINDOW, Inference
from eval.inference.windows import Windows
from training.dense import Dense
from training.model import normalise


class Labeller(Protocol):
    """What a benchmark scores: `Segmenter`, or anything else with `label_maps`."""

    def label_maps(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """The class of every pixel of each image, integers of shape (height, width)."""
        ...


class Segmenter:
    """Segments images by class names.

    Args:
        dense: a run or a baseline.
        classes: unit-length embeddings of names, float32 of shape (m, D), on the model's device.
        inference: the settings; None takes their defaults.
        background: the threshold below which a pixel is background. Background is class 0, and the
            named classes are 1 to n. With None and no words for it there is no background, and the
            classes are 0 to n - 1.
        owners: the class of each name, from 0, or -1 for a word for the background, m in all; None if
            every name is a class of its own.

    Raises:
        UserError: `--window` is not a multiple of the model's patch size.
    """

    def __init__(
        self,
        dense: Dense,
        classes: Tensor,
        inference: Inference | None = None,
        background: float | None = None,
        owners: Sequence[int] | None = None,
    ):
        inference = inference or Inference()
        if inference.window % dense.patch_size:
            raise UserError(
                f"--window {inference.window} is not whole patches of {dense.patch_size} pixels"
            )
        self.dense, self.classes, self.inference = dense, classes, inference
        self.background = background
        self.owners = Owners(range(len(classes)) if owners is None else owners, classes.device)

    def label_maps(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Predicts the class of every pixel.

        Args:
            images: RGB, of any size. Windows of equal shape are encoded in one batch.

        Returns:
            int16 of shape (height, width) for each image.
        """
        smaller = [reduced(image, self.inference.most_pixels) for image in images]
        prepared = [self._prepare(image) for image in smaller]
        maps = self._window_maps(prepared)
        labels = [
            self._labels(windows, of_one, tensor, image.size[::-1])
            for image, (windows, tensor), of_one in zip(smaller, prepared, maps, strict=True)
        ]
        return [
            enlarge(one, image.size[::-1]).cpu().numpy()
            for one, image in zip(labels, images, strict=True)
        ]

    def similarities(self, image: Image.Image) -> np.ndarray:
        """Eq. 7 for every class and pixel of an image: float32 of shape (n, height, width)."""
        return self._pixels(image, self._similarity, self.owners.best)

    def probabilities(self, image: Image.Image) -> np.ndarray:
        """Eq. 8 for every class and pixel of an image: float32 of shape (n, height, width)."""
        return self._pixels(image, self._map, self._finished)

    def _pixels(
        self,
        image: Image.Image,
        of: Callable[[Tensor], Tensor],
        finish: Callable[[Tensor], Tensor],
    ) -> np.ndarray:
        """Maps of an image at its own size, the background's words left out."""
        windows, tensor = self._prepare(image)
        maps = torch.cat([of(part) for part in self._batches(windows.cut(tensor))])  # (B, n, h, w)
        width, height = image.size
        joined = windows.join(maps)  # (m, rows * h, columns * w)
        bands = [finish(values) for _, values in windows.pixels(joined, height, width)]
        scores = torch.cat(bands).transpose(0, 1)  # (n, height, width)
        return self.owners.classes_only(scores).contiguous().cpu().numpy()

    def _prepare(self, image: Image.Image) -> tuple[Windows, Tensor]:
        """An image's windows, and the image resized and normalised: float32 (3, height, width)."""
        inference, patch = self.inference, self.dense.patch_size
        size = resized_size(image.size, inference.size, inference.longest)
        pixels = to_pixels(image, size, inference.resize, self.classes.device)  # (height, width, 3)
        tensor = normalise(pixels[None], self.dense.mean, self.dense.std)[0]  # (3, height, width)
        height, width = tensor.shape[1:]
        window = inference.window or -(-max(width, height) // patch) * patch
        stride = inference.stride if inference.window else window
        return Windows.of(height, width, window, stride, patch), tensor

    def _window_maps(self, prepared: Sequence[tuple[Windows, Tensor]]) -> list[Tensor]:
        """What `_map` gives of each image's windows: float32 of shape (windows, m, h, w)."""
        by_shape = defaultdict(list)
        for index, (windows, _) in enumerate(prepared):
            by_shape[windows.shape].append(index)
        found: dict[int, Tensor] = {}
        for indices in by_shape.values():
            cut = torch.cat(
                [windows.cut(tensor) for windows, tensor in map(prepared.__getitem__, indices)]
            )  # (B, 3, H, W), B windows of several images
            maps = torch.cat([self._map(part) for part in self._batches(cut)])
            sizes = [len(prepared[index][0]) for index in indices]
            found |= dict(zip(indices, maps.split(sizes), strict=True))
        return [found[index] for index in range(len(prepared))]

    def _batches(self, windows: Tensor) -> Iterator[Tensor]:
        return iter(windows.split(self.inference.batch))

    def _map(self, windows: Tensor) -> Tensor:
        """What windows (B, 3, H, W) are joined by, float32 of shape (B, m, h, w).

        These are the probabilities of names, or their similarities where Eq. 8 is taken afterwards.
        """
        inference = self.inference
        if inference.eq8 != PATCH:
            return self._similarity(windows)
        if inference.blend == SIMILARITY:
            return self._eq8(self._similarity(windows))
        trained, clip = self._features(windows)  # (B, h, w, D) each
        if trained is clip or not inference.clip_weight:
            return self._eq8(self._cosines(trained))
        trained, clip = (self._eq8(self._cosines(one)) for one in (trained, clip))
        return torch.lerp(trained, clip, inference.clip_weight)

    def _finished(self, maps: Tensor) -> Tensor:
        """The probabilities of classes (B, n, ...) from joined maps (B, m, ...)."""
        return self.owners.best(maps if self.inference.eq8 == PATCH else self._eq8(maps))

    def _similarity(self, windows: Tensor) -> Tensor:
        """Eq. 7 of every name for windows (B, 3, H, W): float32 of shape (B, m, h, w)."""
        trained, clip = self._features(windows)  # (B, h, w, D) each
        # Blending features equals blending similarities, which are linear in them, and is cheaper.
        return self._cosines(torch.lerp(trained, clip, self.inference.clip_weight))

    @torch.no_grad()
    def _features(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """The trained and CLIP's own features: unit length, float32 of shape (B, h, w, D)."""
        with torch.autocast(windows.device.type, torch.float16, windows.device.type == "cuda"):
            trained, clip = self.dense.both(windows)
        first = trained.float()
        return first, first if clip is trained else clip.float()

    def _cosines(self, features: Tensor) -> Tensor:
        """Cosines of features (B, h, w, D) with every name: shape (B, m, h, w)."""
        return (features @ self.classes.T).permute(0, 3, 1, 2)

    def _eq8(self, similarity: Tensor) -> Tensor:
        """Eq. 8 over dimension 1: (B, m, h, w) to the same shape."""
        inference = self.inference
        logits = similarity * inference.eq8_scale
        if inference.probability == SOFTMAX:
            return logits.softmax(1)
        return torch.sigmoid(logits + inference.bias)

    def _labels(
        self, windows: Windows, maps: Tensor, tensor: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Classes of an image's pixels, int16 of shape `size`, from its windows' `_map`."""
        refined = self.inference.pamr
        if refined and self.inference.pamr_in == WINDOW:
            scores = self._refined_windows(windows, maps, tensor)  # (m, height, width)
            winners = [(slice(None), *_best_at(self._finished(scores[None])[0], size))]
        else:
            joined = windows.join(maps)  # (m, rows * h, columns * w)
            if refined:
                parts = windows.pixels(joined, *tensor.shape[1:])
                scores = torch.cat([self._finished(v) for _, v in parts]).transpose(0, 1)
                winners = [(slice(None), *_best_at(refine(tensor, scores), size))]
            else:
                parts = windows.pixels(joined, *size)
                winners = ((rows, *highest(self._finished(v))) for rows, v in parts)
        labels = torch.empty(size, dtype=torch.int16, device=maps.device)  # (height, width)
        for rows, best, index in winners:
            if self.background is not None and not self.owners.words:
                index = index + 1
            if self.background is not None:
                index = torch.where(best < self.background, 0, index)
            labels[rows] = index.to(torch.int16)
        return labels

    @staticmethod
    def _refined_windows(windows: Windows, maps: Tensor, tensor: Tensor) -> Tensor:
        """The mean of overlapping windows, each refined by PAMR: float32 (m, height, width)."""
        total = torch.zeros(maps.shape[1], *tensor.shape[1:], device=maps.device)
        count = torch.zeros(tensor.shape[1:], device=maps.device)
        for place, one in zip(windows.places(), maps, strict=True):
            image = tensor[:, *place]
            full = F.interpolate(one[None], windows.shape, mode="bilinear")[0]  # (m, H, W)
            total[:, *place] += refine(image, full[:, : image.shape[1], : image.shape[2]])
            count[place] += 1
        return total / count


def highest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest of n scores (rows, n, width), which are overwritten, and the first class that has it.

    `Tensor.max` gives the same, in ten times the time on a CPU: it looks for the class without vectors.

    Returns:
        float32 and int64, both of shape (rows, width).
    """
    count = scores.shape[1]
    best = scores.amax(1, keepdim=True)  # (rows, 1, width)
    below = scores.sub_(best).sign_()  # 0 where a class is the best, else -1
    number = torch.arange(count, dtype=scores.dtype, device=scores.device)[:, None]  # (n, 1)
    torch.add(-number, below, alpha=count, out=below)  # -class of the best, less than -n of others
    found = -below.amax(1)  # (rows, width), NaN where a score is
    return best[:, 0], found.nan_to_num_(nan=0.0).long()


def _best_at(scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The highest of n scores (n, height, width) and its class at every pixel of another size.

    Classes are upsampled a few at a time, as all of them at the original size could take gigabytes.

    Returns:
        float32 and int64, both of shape `size`.
    """
    best = torch.full(size, -1.0, device=scores.device)
    index = torch.zeros(size, dtype=torch.int64, device=scores.device)
    for start in range(0, len(scores), CLASSES_AT_ONCE):
        part = scores[start : start + CLASSES_AT_ONCE][None]
        full = F.interpolate(part, size=size, mode="bilinear", align_corners=False)[0]
        values, which = full.max(0)
        index = torch.where(values > best, which + start, index)
        best = torch.maximum(best, values)
    return best, index
