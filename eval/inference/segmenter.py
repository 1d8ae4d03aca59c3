"""Segments images by class names (the paper's section on inference).

    similarity  s_c = cosine of a patch's feature and the embedding of class c
    Eq. 7       s = (1 - w) s_trained + w s_CLIP
    Eq. 8       p = softmax over classes of (scale * s), or sigmoid(scale * s + bias) of each
                background where no p reaches the threshold

p is computed per patch and upsampled; overlapping windows are averaged. s_CLIP is the frozen
encoder's similarity along the path that the run was trained on, by default `surgery`. The authors'
code blends the two p instead of the two s; `Inference.blend` chooses.

Shapes: B windows, n classes, D joint width; H, W a window's size in pixels, h, w in patches.
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
from eval.inference.pamr import CLASSES_AT_ONCE, refine
from eval.inference.settings import SCALES, SIMILARITY, SOFTMAX, Inference
from eval.inference.windows import Windows
from training.dense import Dense
from training.model import normalise

LONGEST = (
    2048  # maximum of the longer side in pixels, which bounds the memory of long, narrow images
)


class Labeller(Protocol):
    """What a benchmark scores: `Segmenter`, or anything else with `label_maps`."""

    def label_maps(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """The class of every pixel of each image, integers of shape (height, width)."""
        ...


class Segmenter:
    """Segments images by class names.

    Args:
        dense: a run or a baseline.
        classes: unit-length class embeddings, float32 of shape (n, D), on the model's device.
        inference: the settings; None takes their defaults.
        background: the threshold below which a pixel is background. Background is class 0, and the
            named classes are 1 to n. With None there is no background, and they are 0 to n - 1.

    Raises:
        UserError: `--window` is not a multiple of the model's patch size.
    """

    def __init__(
        self,
        dense: Dense,
        classes: Tensor,
        inference: Inference | None = None,
        background: float | None = None,
    ):
        inference = inference or Inference()
        if inference.window % dense.patch_size:
            raise UserError(
                f"--window {inference.window} is not whole patches of {dense.patch_size} pixels"
            )
        self.dense, self.classes, self.inference = dense, classes, inference
        self.background = background

    def label_maps(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Predicts the class of every pixel.

        Args:
            images: RGB, of any size. Windows of equal shape are encoded in one batch.

        Returns:
            int16 of shape (height, width) for each image.
        """
        prepared = [self._prepare(image) for image in images]
        probabilities = self._window_probabilities(prepared)
        return [
            self._labels(windows, maps, tensor, image.size[::-1])
            for image, (windows, tensor), maps in zip(images, prepared, probabilities, strict=True)
        ]

    def similarities(self, image: Image.Image) -> np.ndarray:
        """Eq. 7 for every class and pixel of an image: float32 of shape (n, height, width)."""
        return self._maps(image, self._similarity)

    def probabilities(self, image: Image.Image) -> np.ndarray:
        """Eq. 8 for every class and pixel of an image: float32 of shape (n, height, width)."""
        return self._maps(image, self._probability)

    def _maps(self, image: Image.Image, of: Callable[[Tensor], Tensor]) -> np.ndarray:
        windows, tensor = self._prepare(image)
        maps = torch.cat([of(part) for part in self._batches(windows.cut(tensor))])  # (B, n, h, w)
        width, height = image.size
        joined = windows.join(maps)  # (n, rows * h, columns * w)
        return torch.cat([v for _, v in windows.pixels(joined, height, width)], 1).cpu().numpy()

    def _prepare(self, image: Image.Image) -> tuple[Windows, Tensor]:
        """An image's windows, and the image resized and normalised: float32 (3, height, width)."""
        inference, patch = self.inference, self.dense.patch_size
        width, height = image.size
        if inference.size:
            ratio = min(inference.size / min(width, height), LONGEST / max(width, height))
            width, height = max(1, round(width * ratio)), max(1, round(height * ratio))
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).to(self.classes.device, non_blocking=True)
        tensor = normalise(pixels[None], self.dense.mean, self.dense.std)[0]  # (3, height, width)
        window = inference.window or -(-max(width, height) // patch) * patch
        stride = inference.stride if inference.window else window
        return Windows.of(height, width, window, stride, patch), tensor

    def _window_probabilities(self, prepared: Sequence[tuple[Windows, Tensor]]) -> list[Tensor]:
        """The probabilities of each image's windows: float32 of shape (windows, n, h, w)."""
        by_shape = defaultdict(list)
        for index, (windows, _) in enumerate(prepared):
            by_shape[windows.shape].append(index)
        found: dict[int, Tensor] = {}
        for indices in by_shape.values():
            cut = torch.cat(
                [windows.cut(tensor) for windows, tensor in map(prepared.__getitem__, indices)]
            )  # (B, 3, H, W), B windows of several images
            maps = torch.cat([self._probability(part) for part in self._batches(cut)])
            sizes = [len(prepared[index][0]) for index in indices]
            found |= dict(zip(indices, maps.split(sizes), strict=True))
        return [found[index] for index in range(len(prepared))]

    def _batches(self, windows: Tensor) -> Iterator[Tensor]:
        return iter(windows.split(self.inference.batch))

    def _similarity(self, windows: Tensor) -> Tensor:
        """Eq. 7 for windows (B, 3, H, W): float32 of shape (B, n, h, w)."""
        trained, clip = self._features(windows)  # (B, h, w, D) each
        # Blending features equals blending similarities, which are linear in them, and is cheaper.
        return self._cosines(torch.lerp(trained, clip, self.inference.clip_weight))

    def _probability(self, windows: Tensor) -> Tensor:
        """Eq. 7 and Eq. 8 for windows (B, 3, H, W): float32 of shape (B, n, h, w)."""
        if self.inference.blend == SIMILARITY:
            return self._eq8(self._similarity(windows))
        trained, clip = (self._eq8(self._cosines(one)) for one in self._features(windows))
        return torch.lerp(trained, clip, self.inference.clip_weight)

    @torch.no_grad()
    def _features(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """The trained and CLIP's own features: unit length, float32 of shape (B, h, w, D)."""
        with torch.autocast(windows.device.type, torch.float16, windows.device.type == "cuda"):
            trained, clip = self.dense.both(windows)
        return trained.float(), clip.float()

    def _cosines(self, features: Tensor) -> Tensor:
        """Cosines of features (B, h, w, D) with every class: shape (B, n, h, w)."""
        return (features @ self.classes.T).permute(0, 3, 1, 2)

    def _eq8(self, similarity: Tensor) -> Tensor:
        """Eq. 8 over dimension 1: (B, n, h, w) to the same shape."""
        inference = self.inference
        logits = similarity * (inference.scale or SCALES[inference.probability])
        if inference.probability == SOFTMAX:
            return logits.softmax(1)
        return torch.sigmoid(logits + inference.bias)

    def _labels(
        self, windows: Windows, maps: Tensor, tensor: Tensor, size: tuple[int, int]
    ) -> np.ndarray:
        """Classes of an image's pixels from its windows' probabilities (windows, n, h, w)."""
        joined = windows.join(maps)  # (n, rows * h, columns * w)
        labels = torch.empty(size, dtype=torch.int16, device=joined.device)  # (height, width)
        if self.inference.pamr:
            winners = [(slice(None), *self._refined_winners(windows, joined, tensor, size))]
        else:
            winners = ((rows, *v.max(0)) for rows, v in windows.pixels(joined, *size))
        for rows, best, index in winners:
            if self.background is not None:
                index = torch.where(best < self.background, 0, index + 1)
            labels[rows] = index.to(torch.int16)
        return labels.cpu().numpy()

    @staticmethod
    def _refined_winners(
        windows: Windows, joined: Tensor, tensor: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """The highest probability and its class for every pixel, refined by PAMR.

        PAMR runs at the resized image's size. Classes are then upsampled a few at a time, as all of
        them at the original size could take gigabytes.

        Returns:
            float32 and int64, both of shape `size`.
        """
        resized = (windows.rows.size, windows.columns.size)
        scores = torch.cat([v for _, v in windows.pixels(joined, *resized)], 1)  # (n, *resized)
        refined = refine(tensor, scores)
        best = torch.full(size, -1.0, device=refined.device)
        index = torch.zeros(size, dtype=torch.int64, device=refined.device)
        for start in range(0, len(refined), CLASSES_AT_ONCE):
            part = refined[start : start + CLASSES_AT_ONCE][None]
            full = F.interpolate(part, size=size, mode="bilinear", align_corners=False)[0]
            values, which = full.max(0)
            index = torch.where(values > best, which + start, index)
            best = torch.maximum(best, values)
        return best, index
