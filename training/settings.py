"""Every setting of a training run, in one frozen dataclass that checks itself."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from parsing.errors import UserError
from training.augment import RANDOM, Augmentation
from training.clip import MODEL, WEIGHTS
from training.losses import BALANCED, TAG_LOSSES
from training.surgery import SURGERY, ImagePath

PATCHES, CLASS = "patches", "class"
PRECISIONS = ("auto", "fp32", "bf16")
REFERENCE_BATCH = 4096  # the batch that the learning rate is given for
# What may change between a checkpoint and the run that goes on from it.
LOOSE = (
    "labels", "images", "key_field", "runs", "name", "cache", "model", "weights", "quick_gelu",
    "epochs", "steps", "micro_batch", "workers", "precision", "save_every", "log_every", "resume",
    "wandb",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """A training run; the defaults are the paper's.

    Attributes:
        labels: label file made by `labels/build_vocab.py`.
        images: folder or glob of webdataset shards, or folder of images.
        key_field: join images and labels by this field of each image's .json.
        runs, name: the run is the folder `runs/name`.
        cache: folder for the index of images and the tags' embeddings.
        model, weights, quick_gelu: see `load_clip`; `groupvit:NAME` trains a GroupViT instead.
        path, depth: how patch tokens are read, see `ImagePath`.
        blocks: gated convolution blocks of the projector.
        pool: `patches` (their mean) or `class` (the class token, for Table 5).
        tag_loss: one of `TAG_LOSSES`.
        separate: objects and attributes have a softmax each.
        tag_weight, text_weight: of Eq. 2 and Eq. 5 in Eq. 6; 0 leaves a loss out.
        batch_size: images of one step on all ranks together.
        micro_batch: images that one rank puts through the model at once, at most.
        lr: for a batch of 4,096; scaled linearly with `batch_size`.
        weight_decay: of matrices and convolutions; vectors and scalars have none.
        clip_norm: the largest norm of a step's gradient.
        epochs: passes over the images. Nine are the paper's 30,000 steps on CC3M and CC12M.
        steps: instead of `epochs`.
        size: pixels of the square images; None takes those that the model was trained on.
        crop, min_scale, flip, jitter: see `Augmentation`.
        workers: processes of each rank that load images; None takes one per core, at most eight.
        precision: of encoder and projector; `auto` is bf16 on a GPU and fp32 on a CPU. Losses are
            always computed in fp32.
        seed: of order, augmentation and initial weights.
        save_every, log_every: steps.
        resume: go on from the run's checkpoint.
        wandb: Weights & Biases project to log to as well.
    """

    labels: str
    images: str = "data/images"
    key_field: str | None = None
    runs: str = "data/runs"
    name: str = "tagalign"
    cache: str = "data/cache"
    model: str = MODEL
    weights: str | None = WEIGHTS
    quick_gelu: bool | None = None
    path: str = SURGERY
    depth: int = 6
    blocks: int = 2
    pool: str = PATCHES
    tag_loss: str = BALANCED
    separate: bool = False
    tag_weight: float = 1.0
    text_weight: float = 1.0
    batch_size: int = REFERENCE_BATCH
    micro_batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.05
    clip_norm: float = 5.0
    epochs: float = 9.0
    steps: int | None = None
    size: int | None = None
    crop: str = RANDOM
    min_scale: float = 0.08
    flip: float = 0.0
    jitter: float = 0.0
    workers: int | None = None
    precision: str = "auto"
    seed: int = 0
    save_every: int = 500
    log_every: int = 10
    resume: bool = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        try:
            self.image_path, self.augmentation(self.size or 1)
        except ValueError as error:
            raise UserError(str(error)) from error
        _one_of("--tag-loss", self.tag_loss, TAG_LOSSES)
        _one_of("--pool", self.pool, (PATCHES, CLASS))
        _one_of("--precision", self.precision, PRECISIONS)
        for flag in ("batch_size", "micro_batch", "save_every", "log_every"):
            _at_least(flag, getattr(self, flag), 1)
        for flag in ("blocks", "seed", "tag_weight", "text_weight", "weight_decay"):
            _at_least(flag, getattr(self, flag), 0)
        for flag in ("lr", "clip_norm", "epochs"):
            if not getattr(self, flag) > 0:
                raise UserError(f"{_flag(flag)} is above 0, not {getattr(self, flag)}")
        for flag, least in (("steps", 1), ("workers", 0), ("size", 1)):
            if getattr(self, flag) is not None:
                _at_least(flag, getattr(self, flag), least)
        if self.tag_weight == self.text_weight == 0:
            raise UserError("with --tag-weight 0 and --text-weight 0 there is nothing to learn")
        if self.separate and self.tag_loss == "groupvit":
            raise UserError("--separate is for losses over the whole vocabulary, not for groupvit")
        if not self.name or "/" in self.name:
            raise UserError(f"--name is the name of a folder, not '{self.name}'")

    @property
    def image_path(self) -> ImagePath:
        return ImagePath(self.path, self.depth)

    @property
    def kernel(self) -> int:
        """Side of the projector's convolutions: a class token has no neighbours."""
        return 1 if self.pool == CLASS else 3

    @property
    def folder(self) -> str:
        return f"{self.runs.rstrip('/')}/{self.name}"

    @property
    def num_workers(self) -> int:
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return min(max(cores, 1), 8)

    def augmentation(self, size: int) -> Augmentation:
        return Augmentation(size, self.crop, self.min_scale, self.flip, self.jitter)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def fixed(self) -> dict[str, Any]:
        """The settings that a run keeps from its first step to its last."""
        return {key: value for key, value in asdict(self).items() if key not in LOOSE}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{flag} is one of {', '.join(known)}, not '{value}'")


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise UserError(f"{_flag(name)} is at least {least}, not {value}")
