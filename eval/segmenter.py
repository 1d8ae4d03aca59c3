"""From an image and class embeddings to a class for every pixel (the paper's section on inference).

    similarity  s_c = cosine of a patch's feature and the embedding of class c
    Eq. 7       s = (1 - w) s_trained + w s_CLIP
    Eq. 8       p = softmax over classes of (scale * s), or sigmoid(scale * s + bias) of each
                background where no p reaches the threshold

p is made per patch and upsampled; windows are averaged. s_CLIP is the frozen encoder's own answer along
the path that the run was trained on, which is `surgery` by default. The authors' code takes Eq. 7 of the
two p instead of the two s; `Inference.blend` has both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from eval.class_embeddings import PHOTO, TEMPLATES
from eval.pamr import CLASSES_AT_ONCE, refine
from eval.windows import Windows
from parsing.errors import UserError
from training.dense import Dense
from training.model import normalise

SOFTMAX, SIGMOID = "softmax", "sigmoid"
SIMILARITY, PROBABILITY = "similarity", "probability"  # what Eq. 7 blends
SCALES = {SOFTMAX: 30.0, SIGMOID: 10.0}  # those of the released code
THRESHOLDS = {SIGMOID: 0.4}  # softmax's depends on the number of classes, so on the benchmark
LONGEST = 2048  # pixels of the longer side, whatever the shorter one becomes


@dataclass(frozen=True)
class Inference:
    """How maps become classes; every trick of the paper's Table 9 can be switched off.

    Attributes:
        clip_weight: w of Eq. 7; 0 leaves CLIP's own map out, 1 is exactly CLIP.
        blend: what Eq. 7 is of: `similarity`, as the paper writes it, or `probability`, as its authors'
            code does.
        probability: `softmax` or `sigmoid`, Eq. 8.
        scale: of Eq. 8; None takes that of `SCALES`.
        bias: of Eq. 8's sigmoid form; softmax has none.
        threshold: below which a pixel is background; None takes the benchmark's own for softmax,
            and 0.4 for sigmoid.
        templates: a key of `TEMPLATES`.
        size: pixels that the shorter side is resized to; 0 keeps images as they are.
        window, stride: pixels of the sliding windows; a window of 0 shows the whole image at once.
        pamr: refine probabilities by the image's edges.
        batch: windows that the encoder sees at once.
    """

    clip_weight: float = 0.3
    blend: str = SIMILARITY
    probability: str = SOFTMAX
    scale: float | None = None
    bias: float = -2.5
    threshold: float | None = None
    templates: str = PHOTO
    size: int = 448
    window: int = 448
    stride: int = 224
    pamr: bool = False
    batch: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.clip_weight <= 1:
            raise UserError(f"--clip-weight is between 0 and 1, not {self.clip_weight}")
        for flag, value, known in (
            ("--blend", self.blend, (SIMILARITY, PROBABILITY)),
            ("--probability", self.probability, (SOFTMAX, SIGMOID)),
            ("--templates", self.templates, tuple(TEMPLATES)),
        ):
            if value not in known:
                raise UserError(f"{flag} is one of {', '.join(known)}, not '{value}'")
        if self.scale is not None and not self.scale > 0:
            raise UserError(f"--scale is above 0, not {self.scale}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"--threshold is between 0 and 1, not {self.threshold}")
        for flag, value, least in (
            ("--size", self.size, 0),
            ("--window", self.window, 0),
            ("--stride", self.stride, 1),
            ("--batch", self.batch, 1),
        ):
            if value < least:
                raise UserError(f"{flag} is at least {least}, not {value}")
        if self.window and self.stride > self.window:
            raise UserError(
                f"--stride {self.stride} leaves gaps between windows of {self.window} pixels"
            )

    def threshold_of(self, benchmarks: float | None) -> float:
        """The threshold for a benchmark whose own for softmax is given."""
        if self.threshold is not None:
            return self.threshold
        return THRESHOLDS.get(self.probability, benchmarks or 0.0)

    def to_json(self) -> dict[str, Any]:
        """What the result depends on, so without `batch`."""
        return {key: value for key, value in asdict(self).items() if key != "batch"}


class Segmenter:
    """Segments images by class names.

    Args:
        dense: a run or a baseline.
        classes: unit embeddings, shape (n, D), on the model's device.
        inference: how.
        background: None, or the threshold under which a pixel is background, class 0; the named classes
            are then 1 to n, and 0 to n - 1 without.

    Raises:
        UserError: windows that are not whole patches of this model.
    """

    def __init__(
        self,
        dense: Dense,
        classes: Tensor,
        inference: Inference = Inference(),
        background: float | None = None,
    ):
        if inference.window % dense.patch_size:
            raise UserError(
                f"--window {inference.window} is not whole patches of {dense.patch_size} pixels"
            )
        self.dense, self.classes, self.inference = dense, classes, inference
        self.background = background

    def label_maps(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """The class of every pixel of each image, int16 of the image's (height, width).

        Args:
            images: RGB; windows of equal shape go through the encoder together.
        """
        prepared = [self._prepare(image) for image in images]
        probabilities = self._window_probabilities(prepared)
        return [
            self._labels(windows, maps, tensor, image.size[::-1])
            for image, (windows, tensor), maps in zip(images, prepared, probabilities, strict=True)
        ]

    def similarities(self, image: Image.Image) -> np.ndarray:
        """The cosine of every pixel and class after Eq. 7: float32 of shape (n, height, width)."""
        return self._maps(image, self._similarity)

    def probabilities(self, image: Image.Image) -> np.ndarray:
        """Eq. 8 of every pixel and class: float32 of shape (n, height, width)."""
        return self._maps(image, self._probability)

    def _maps(self, image: Image.Image, of: Callable[[Tensor], Tensor]) -> np.ndarray:
        windows, tensor = self._prepare(image)
        maps = torch.cat([of(part) for part in self._batches(windows.cut(tensor))])
        width, height = image.size
        joined = windows.join(maps)
        return torch.cat([v for _, v in windows.pixels(joined, height, width)], 1).cpu().numpy()

    def _prepare(self, image: Image.Image) -> tuple[Windows, Tensor]:
        """The resized image, normalised, of shape (3, h, w), and its windows."""
        inference, patch = self.inference, self.dense.patch_size
        width, height = image.size
        if inference.size:
            ratio = min(inference.size / min(width, height), LONGEST / max(width, height))
            width, height = max(1, round(width * ratio)), max(1, round(height * ratio))
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).to(self.classes.device, non_blocking=True)
        tensor = normalise(pixels[None], self.dense.mean, self.dense.std)[0]
        window = inference.window or -(-max(width, height) // patch) * patch
        stride = inference.stride if inference.window else window
        return Windows.of(height, width, window, stride, patch), tensor

    def _window_probabilities(self, prepared: Sequence[tuple[Windows, Tensor]]) -> list[Tensor]:
        """Of each image, the probabilities of its windows: (windows, n, h, w)."""
        by_shape = defaultdict(list)
        for index, (windows, _) in enumerate(prepared):
            by_shape[windows.shape].append(index)
        found: dict[int, Tensor] = {}
        for indices in by_shape.values():
            cut = torch.cat(
                [windows.cut(tensor) for windows, tensor in map(prepared.__getitem__, indices)]
            )
            maps = torch.cat([self._probability(part) for part in self._batches(cut)])
            sizes = [len(prepared[index][0]) for index in indices]
            found |= dict(zip(indices, maps.split(sizes), strict=True))
        return [found[index] for index in range(len(prepared))]

    def _batches(self, windows: Tensor) -> Iterator[Tensor]:
        return iter(windows.split(self.inference.batch))

    def _similarity(self, windows: Tensor) -> Tensor:
        """Eq. 7 for windows (B, 3, H, W): float32 of shape (B, n, h, w)."""
        trained, clip = self._features(windows)
        # Features are blended, not their maps, as cosines with one embedding are linear in them.
        return self._cosines(torch.lerp(trained, clip, self.inference.clip_weight))

    def _probability(self, windows: Tensor) -> Tensor:
        """Eq. 7 and 8 for windows (B, 3, H, W): float32 of shape (B, n, h, w)."""
        if self.inference.blend == SIMILARITY:
            return self._eq8(self._similarity(windows))
        trained, clip = (self._eq8(self._cosines(one)) for one in self._features(windows))
        return torch.lerp(trained, clip, self.inference.clip_weight)

    @torch.no_grad()
    def _features(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """The trained and CLIP's own, unit length, float32 of shape (B, h, w, D)."""
        with torch.autocast(windows.device.type, torch.float16, windows.device.type == "cuda"):
            trained, clip = self.dense.both(windows)
        return trained.float(), clip.float()

    def _cosines(self, features: Tensor) -> Tensor:
        """With each class: (B, h, w, D) to (B, n, h, w)."""
        return (features @ self.classes.T).permute(0, 3, 1, 2)

    def _eq8(self, similarity: Tensor) -> Tensor:
        """Over classes in the second direction: (B, n, ...) to the same shape."""
        inference = self.inference
        logits = similarity * (inference.scale or SCALES[inference.probability])
        if inference.probability == SOFTMAX:
            return logits.softmax(1)
        return torch.sigmoid(logits + inference.bias)

    def _labels(
        self, windows: Windows, maps: Tensor, tensor: Tensor, size: tuple[int, int]
    ) -> np.ndarray:
        joined = windows.join(maps)
        labels = torch.empty(size, dtype=torch.int16, device=joined.device)
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
        """The best probability and its class for every pixel after PAMR at the size that was shown.

        Classes are upsampled a few at a time: all of them at the image's own size could be gigabytes.
        """
        shown = (windows.rows.size, windows.columns.size)
        refined = refine(tensor, torch.cat([v for _, v in windows.pixels(joined, *shown)], 1))
        best = torch.full(size, -1.0, device=refined.device)
        index = torch.zeros(size, dtype=torch.int64, device=refined.device)
        for start in range(0, len(refined), CLASSES_AT_ONCE):
            part = refined[start : start + CLASSES_AT_ONCE][None]
            full = F.interpolate(part, size=size, mode="bilinear", align_corners=False)[0]
            values, which = full.max(0)
            index = torch.where(values > best, which + start, index)
            best = torch.maximum(best, values)
        return best, index
