"""Settings of inference: how similarities become classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from common.errors import UserError
from common.flags import setting
from eval.inference.class_embeddings import PHOTO, TEMPLATES

SOFTMAX, SIGMOID = "softmax", "sigmoid"
SIMILARITY, PROBABILITY = "similarity", "probability"  # what Eq. 7 blends
SCALES = {SOFTMAX: 30.0, SIGMOID: 10.0}  # the released code's
THRESHOLDS = {SIGMOID: 0.4}  # softmax's depends on the number of classes, so on the benchmark


@dataclass(frozen=True)
class Inference:
    """How similarities become classes; every trick of the paper's Table 9 can be switched off.

    Every field is a flag of the same name.

    Raises:
        UserError: a value is out of its range.
    """

    clip_weight: float = setting(
        0.3, "weight w of CLIP's own map in Eq. 7; 0 leaves it out, 1 is CLIP alone", metavar="W"
    )
    blend: str = setting(
        SIMILARITY,
        "what Eq. 7 blends: similarity (the paper) or probability (its authors' code)",
        metavar="NAME",
    )
    probability: str = setting(
        SOFTMAX, "form of Eq. 8: softmax over classes, or sigmoid of each class", metavar="NAME"
    )
    scale: float | None = setting(
        None,
        f"scale of Eq. 8; default {SCALES[SOFTMAX]:g} for softmax, {SCALES[SIGMOID]:g} for sigmoid",
        metavar="X",
    )
    bias: float = setting(-2.5, "bias of Eq. 8's sigmoid form", metavar="X")
    threshold: float | None = setting(
        None,
        "pixels whose highest probability is below it are background; default: the benchmark's for "
        f"softmax, {THRESHOLDS[SIGMOID]:g} for sigmoid",
        metavar="X",
    )
    templates: str = setting(
        PHOTO, f"sentences that class names are put in: {', '.join(TEMPLATES)}", metavar="NAME"
    )
    size: int = setting(
        448, "pixels that the shorter side is resized to; 0 keeps the image's size", metavar="N"
    )
    window: int = setting(
        448, "pixels of the sliding window; 0 encodes the whole image at once", metavar="N"
    )
    stride: int = setting(224, "pixels between windows", metavar="N")
    pamr: bool = setting(False, "refine the probabilities along the image's edges (PAMR)")
    batch: int = setting(8, "windows that are encoded at once", metavar="N")

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
        """The threshold for a benchmark.

        Args:
            benchmarks: the benchmark's own threshold for softmax.
        """
        if self.threshold is not None:
            return self.threshold
        return THRESHOLDS.get(self.probability, benchmarks or 0.0)

    def to_json(self) -> dict[str, Any]:
        """The fields that change the result: all but `batch`."""
        return {key: value for key, value in asdict(self).items() if key != "batch"}
