"""Settings of inference: how an image and class names become classes.

`Inference` has a field for every step; its defaults are the release's. `protocols.py` has the other
protocols, which are other values of the same fields.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from common.errors import UserError
from common.flags import setting
from eval.confusion import ABSENT, ZERO
from eval.datasets.class_names import RELEASE_NAMES, THRESHOLD
from eval.inference.class_embeddings import PHOTO_STOP, TEMPLATES
from training.settings import IMAGENET, NORMALISATIONS

RELEASE, RELEASE_DEV, PAPER = "release", "release-dev", "paper"
GROUP_VIT, SCLIP = "group-vit", "sclip"
PROTOCOL_NAMES = (RELEASE, RELEASE_DEV, PAPER, GROUP_VIT, SCLIP)
SOFTMAX, SIGMOID = "softmax", "sigmoid"
SIMILARITY, PROBABILITY = "similarity", "probability"  # what Eq. 7 blends
PATCH, PIXEL = "patch", "pixel"  # where Eq. 8 is taken
PLAIN, ANTIALIAS = "plain", "antialias"  # how images are resized
WINDOW, IMAGE = "window", "image"  # where PAMR runs
SCALES = {SOFTMAX: 30.0, SIGMOID: 10.0}  # the released code's
THRESHOLDS = {SIGMOID: 0.4}  # softmax's depends on the number of classes, so on the benchmark


@dataclass(frozen=True)
class Inference:
    """How an image becomes classes; every trick of the paper's Table 9 can be switched off.

    Every field made by `setting` is a flag of the same name.

    Attributes:
        chosen: names of the fields that the user has set, which no benchmark's own value replaces.

    Raises:
        UserError: a value is out of its range, or two exclude each other.
    """

    protocol: str = setting(
        RELEASE,
        f"values of all settings that are not given, and their values for single benchmarks: one of "
        f"{', '.join(PROTOCOL_NAMES)}",
        metavar="NAME",
    )
    normalisation: str = setting(
        IMAGENET,
        f"mean and deviation of pixels, of {', '.join(NORMALISATIONS)} (CLIP's own); default: what a run "
        "was trained with, and the protocol's for a baseline",
        metavar="NAME",
    )
    templates: str = setting(
        PHOTO_STOP, f"sentences that class names are put in: {', '.join(TEMPLATES)}", metavar="NAME"
    )
    names: str = setting(
        RELEASE_NAMES,
        "names of the classes: release (mmsegmentation's, such as tvmonitor; WordNet's for ImageNet-S), "
        "plain (tv monitor; open_clip's for ImageNet-S), sclip (some classes have several, of which the "
        "best counts), or a YAML file of yours",
        metavar="NAME",
    )
    background: str = setting(
        THRESHOLD,
        "what is background: threshold (where no class reaches --threshold), words (where one of a "
        "benchmark's words for things in the background is best), or a file of such words, one a line",
        metavar="NAME",
    )
    resize: str = setting(
        PLAIN,
        "how images are resized: plain (bilinear, as mmcv does) or antialias (bilinear, as Pillow does)",
        metavar="NAME",
    )
    size: int = setting(
        448, "pixels that the shorter side is resized to; 0 keeps the image's size", metavar="N"
    )
    longest: int = setting(2048, "most pixels of the longer side when resized", metavar="N")
    most_pixels: int = setting(
        0,
        "larger images are first reduced to a longer side of this number's root, and their classes "
        "enlarged by nearest; 0 for no limit",
        metavar="N",
    )
    window: int = setting(
        448, "pixels of the sliding window; 0 encodes the whole image at once", metavar="N"
    )
    stride: int = setting(224, "pixels between windows", metavar="N")
    clip_weight: float = setting(
        0.3, "weight w of CLIP's own map in Eq. 7; 0 leaves it out, 1 is CLIP alone", metavar="W"
    )
    blend: str = setting(
        PROBABILITY,
        "what Eq. 7 blends: similarity (the paper) or probability (the release)",
        metavar="NAME",
    )
    probability: str = setting(
        SIGMOID, "form of Eq. 8: softmax over classes, or sigmoid of each class", metavar="NAME"
    )
    eq8: str = setting(
        PATCH, "where Eq. 8 is taken: at each patch, or at each pixel of the result", metavar="NAME"
    )
    scale: float | None = setting(
        None,
        f"scale of Eq. 8; default {SCALES[SOFTMAX]:g} for softmax, {SCALES[SIGMOID]:g} for sigmoid",
        metavar="X",
    )
    bias: float = setting(-2.5, "bias of Eq. 8's sigmoid form", metavar="X")
    threshold: float | None = setting(
        None,
        "pixels whose highest probability is below it are background; default: the protocol's for the "
        f"benchmark, or the benchmark's for softmax, and {THRESHOLDS[SIGMOID]:g} for sigmoid",
        metavar="X",
    )
    absent: str = setting(
        ZERO,
        "IoU of a class that is predicted but in no mask: zero (as mmsegmentation counts it), or "
        "left-out of the mean",
        metavar="NAME",
    )
    pamr: bool = setting(False, "refine the probabilities along the image's edges (PAMR)")
    pamr_in: str = setting(
        WINDOW, "where PAMR runs: in each window, or in the whole image", metavar="NAME"
    )
    batch: int = setting(8, "windows that are encoded at once", metavar="N")
    chosen: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for flag, value, known in (
            ("--protocol", self.protocol, PROTOCOL_NAMES),
            ("--normalisation", self.normalisation, NORMALISATIONS),
            ("--templates", self.templates, tuple(TEMPLATES)),
            ("--resize", self.resize, (PLAIN, ANTIALIAS)),
            ("--blend", self.blend, (SIMILARITY, PROBABILITY)),
            ("--probability", self.probability, (SOFTMAX, SIGMOID)),
            ("--eq8", self.eq8, (PATCH, PIXEL)),
            ("--absent", self.absent, ABSENT),
            ("--pamr-in", self.pamr_in, (WINDOW, IMAGE)),
        ):
            if value not in known:
                raise UserError(f"{flag} is one of {', '.join(known)}, not '{value}'")
        if not 0 <= self.clip_weight <= 1:
            raise UserError(f"--clip-weight is between 0 and 1, not {self.clip_weight}")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise UserError(f"--scale is a number above 0, not {self.scale}")
        if not math.isfinite(self.bias):
            raise UserError(f"--bias is a number, not {self.bias}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"--threshold is between 0 and 1, not {self.threshold}")
        for flag, value, least in (
            ("--size", self.size, 0),
            ("--longest", self.longest, 1),
            ("--most-pixels", self.most_pixels, 0),
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
        if self.eq8 == PIXEL and self.blend == PROBABILITY and 0 < self.clip_weight < 1:
            raise UserError(
                "--eq8 pixel takes Eq. 8 once, after the blend: it needs --blend similarity"
            )
        if self.eq8 == PIXEL and self.pamr and self.pamr_in == WINDOW:
            raise UserError("--eq8 pixel joins windows before Eq. 8: PAMR needs --pamr-in image")

    @property
    def eq8_scale(self) -> float:
        """The scale of Eq. 8 that is used."""
        return SCALES[self.probability] if self.scale is None else self.scale

    def threshold_of(self, benchmarks: float | None) -> float:
        """The threshold for a benchmark.

        Args:
            benchmarks: the benchmark's own threshold for softmax.
        """
        if self.threshold is not None:
            return self.threshold
        return THRESHOLDS.get(self.probability, benchmarks or 0.0)

    def to_json(self) -> dict[str, Any]:
        """The fields that change the result: all but `batch` and `chosen`."""
        values = asdict(self) | {"scale": self.eq8_scale}
        return {key: value for key, value in values.items() if key not in ("batch", "chosen")}

    def check_threshold(self, threshold: float, names: int) -> None:
        """Checks that a background threshold can act.

        Args:
            threshold: below which a pixel is background.
            names: number of names that Eq. 8 is taken over.

        Raises:
            UserError: no probability can be below it: those of a softmax over n names are at least 1 / n.
        """
        if self.probability == SOFTMAX and threshold <= 1 / names:
            raise UserError(
                f"no pixel can be background: the highest of a softmax over {names} names is never below "
                f"1/{names} = {1 / names:.3g}, and the threshold is {threshold:g}: give a higher "
                "--threshold, or --probability sigmoid"
            )
        if threshold <= 0:
            raise UserError(
                f"no pixel can be background: no probability is below the threshold {threshold:g}: give a "
                "higher --threshold"
            )
