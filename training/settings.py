"""The settings of a training run, in one frozen dataclass that checks itself."""

from __future__ import annotations

import os
from dataclasses import MISSING, asdict, dataclass
from typing import Any

from common.errors import UserError
from common.flags import setting
from training.augment import BICUBIC, CROPS, INTERPOLATIONS, RANDOM, WHOLE, Augmentation
from training.clip import MODEL, TAG_TEMPLATE, WEIGHTS
from training.groupvit import PREFIX as GROUPVIT_PREFIX
from training.losses import BALANCED, GROUPVIT, SOFTMAX_LOSSES, TAG_LOSSES
from training.surgery import MODES, SURGERY, ImagePath

PAPER, RELEASE = "paper", "release"
PATCHES, CLASS = "patches", "class"
POOLS = (PATCHES, CLASS)
IMAGENET, CLIP_OWN = "imagenet", "clip"
NORMALISATIONS = (IMAGENET, CLIP_OWN)
TAGGED, ALL = "tagged", "all"
MEANS = (TAGGED, ALL)
PRECISIONS = ("auto", "fp32", "bf16")
REFERENCE_BATCH = 4096  # the batch size that --lr is given for
# How kept features were made of their pictures, and what is therefore the default with --features.
OF_FEATURES = {"crop": WHOLE, "normalisation": CLIP_OWN}
# What changes pixels, and the values that do what was done for kept features.
AUGMENTING: dict[str, Any] = {
    "crop": WHOLE, "flip": 0.0, "jitter": 0.0, "interpolation": BICUBIC, "randaugment": "", "erasing": 0.0,
}  # fmt: skip
# A checkpoint can be resumed with other values of these settings, and of no others.
MAY_CHANGE = (
    "protocol", "labels", "images", "features", "key_field", "skip_damaged", "runs", "name", "cache", "model", "weights", "quick_gelu",
    "epochs", "steps", "micro_batch", "workers", "precision", "tf32", "channels_last", "compile", "save_every", "log_every", "resume",
    "wandb",
)  # fmt: skip
GROUPS = {
    "data": (
        "labels", "images", "features", "key_field", "skip_damaged", "workers", "size", "crop", "min_scale",
        "interpolation", "flip", "jitter", "randaugment", "erasing", "normalisation",
    ),
    "run": ("protocol", "runs", "name", "resume", "cache", "save_every", "log_every", "wandb"),
    "model": (
        "model", "weights", "quick_gelu", "path", "depth", "blocks", "pool",
    ),
    "speed": ("precision", "tf32", "channels_last", "compile"),
    "loss and optimiser": (
        "tag_loss", "separate", "soft_labels", "mean_over", "least_probability", "prompt", "tag_weight", "text_weight", "batch_size",
        "micro_batch", "epochs", "steps", "lr", "weight_decay", "decay_scalars", "clip_norm", "seed",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Settings of `training/train.py`; every field is a flag of the same name.

    The defaults are those of the protocol `paper`; `training/protocols.py` has others.

    Raises:
        UserError: a value is unknown or out of its range, or two settings exclude each other.
    """

    labels: str = setting(MISSING, "label file made by labels/build_vocab.py", metavar="FILE")
    images: str = setting(
        "data/images",
        "folder or glob of webdataset shards, or folder of images",
        metavar="PLACE",
    )
    features: str | None = setting(
        None,
        "read the tokens that training/check_tags.py --features kept here, in place of --images and the "
        f"frozen encoder; --crop is then {WHOLE}, and the default of --normalisation {CLIP_OWN}",
        metavar="DIR",
    )
    key_field: str | None = setting(
        None,
        "join images and labels by this field of each image's .json, for example url",
        metavar="FIELD",
    )
    skip_damaged: bool = setting(
        False, "leave out shards that are cut off or no tar, which are an error else"
    )
    protocol: str = setting(
        PAPER,
        "whose training the defaults are: the paper's text, or the authors' code; see training/README.md",
        choices=(PAPER, RELEASE),
    )
    runs: str = setting("data/runs", "folder of runs", metavar="DIR")
    name: str = setting("tagalign", "folder of this run, inside --runs", metavar="NAME")
    cache: str = setting(
        "data/cache", "folder for the index of images and the embeddings of tags", metavar="DIR"
    )
    model: str = setting(
        MODEL,
        "open_clip name, hf-hub:ORG/REPO, folder of a saved model, or groupvit:NAME",
        metavar="NAME",
    )
    weights: str | None = setting(
        WEIGHTS, "open_clip's name of the weights, or a local file", metavar="NAME"
    )
    quick_gelu: bool | None = setting(
        None,
        "activation of OpenAI's models; default where the weights are known to need it",
    )
    path: str = setting(
        SURGERY,
        "how patch tokens are read: CLIP Surgery, another last block, or the unchanged ViT (none)",
        choices=MODES,
    )
    depth: int = setting(6, "number of last blocks that CLIP Surgery runs beside", metavar="N")
    blocks: int = setting(2, "gated convolution blocks of the projector", metavar="N")
    pool: str = setting(
        PATCHES, "what is classified: the mean of the patches, or the class token", choices=POOLS
    )
    tag_loss: str = setting(BALANCED, "multi-tag classification loss", choices=TAG_LOSSES)
    separate: bool = setting(False, "use one softmax for objects and another for attributes")
    soft_labels: bool = setting(
        False, "weigh tags by the scores that training/check_tags.py gave them"
    )
    mean_over: str = setting(
        TAGGED,
        "images that the tag loss is the mean of: those with a tag (Eq. 2), or all of the batch",
        choices=MEANS,
    )
    least_probability: float = setting(
        0.0,
        "a tag that a softmax gives less counts as if it had this probability, and has no gradient",
        metavar="X",
    )
    prompt: str = setting(
        TAG_TEMPLATE, "what CLIP embeds for a tag, with {} for it", metavar="TEXT"
    )
    tag_weight: float = setting(1.0, "weight of the tag loss; 0 leaves it out", metavar="X")
    text_weight: float = setting(1.0, "weight of the image-text loss; 0 leaves it out", metavar="X")
    batch_size: int = setting(REFERENCE_BATCH, "images of a step, over all ranks", metavar="N")
    micro_batch: int | None = setting(
        None,
        "largest number of images that a rank puts through the model at once; default as many as fit",
        metavar="N",
    )
    lr: float = setting(
        1e-3,
        f"learning rate at a batch of {REFERENCE_BATCH:,}; scaled linearly with --batch-size",
        metavar="X",
    )
    weight_decay: float = setting(
        0.05, "of matrices and convolutions; vectors and scalars have none", metavar="X"
    )
    decay_scalars: bool | None = setting(False, "gates and temperatures have weight decay, too")
    clip_norm: float = setting(5.0, "largest norm of a step's gradient", metavar="X")
    epochs: float = setting(
        9.0,
        "passes over the images; nine are the paper's 30,000 steps on CC3M and CC12M",
        metavar="N",
    )
    steps: int | None = setting(None, "number of steps, instead of --epochs", metavar="N")
    size: int | None = setting(
        None, "pixels of the side of the square images; default the model's", metavar="N"
    )
    crop: str = setting(RANDOM, "part of the image that is used", choices=CROPS)
    min_scale: float = setting(
        0.08, "smallest share of the image's area that a random crop takes", metavar="X"
    )
    flip: float = setting(0.0, "probability of a horizontal flip", metavar="X")
    jitter: float = setting(
        0.0, "largest relative change of brightness, contrast and saturation", metavar="X"
    )
    interpolation: str = setting(
        BICUBIC, "how a crop is resized; both without aliasing", choices=INTERPOLATIONS
    )
    randaugment: str = setting(
        "", "RandAugment as timm writes it, for example rand-m9-mstd0.5-inc1", metavar="NAME"
    )
    erasing: float = setting(
        0.0, "probability that noise takes the place of a rectangle of the image", metavar="X"
    )
    normalisation: str = setting(
        IMAGENET,
        "mean and standard deviation of pixels: ImageNet's, which the release's checkpoints were trained "
        "with, or those that CLIP itself was trained with",
        choices=NORMALISATIONS,
    )
    workers: int | None = setting(
        None,
        "processes of each rank that load images; default one per core, at most 8",
        metavar="N",
    )
    precision: str = setting(
        "auto",
        "of encoder and projector: auto is bf16 on a GPU and fp32 on a CPU; losses are always fp32",
        choices=PRECISIONS,
    )
    tf32: bool = setting(
        False, "multiply float32 matrices in TF32 on a GPU that has it, those of the losses too"
    )
    channels_last: bool = setting(False, "keep the projector's convolutions in channels-last order")
    compile: bool = setting(False, "compile encoder and projector with torch.compile")
    seed: int = setting(0, "of the order, the augmentation and the initial weights", metavar="N")
    save_every: int = setting(500, "steps between checkpoints", metavar="N")
    log_every: int = setting(10, "steps between lines of metrics", metavar="N")
    resume: bool = setting(False, "continue from the run's checkpoint")
    wandb: str | None = setting(
        None, "Weights & Biases project to log to as well", metavar="PROJECT"
    )

    def __post_init__(self) -> None:
        try:
            self.image_path, self.augmentation(self.size or 1)
        except ValueError as error:
            raise UserError(str(error)) from error
        _one_of("--tag-loss", self.tag_loss, TAG_LOSSES)
        _one_of("--pool", self.pool, POOLS)
        _one_of("--mean-over", self.mean_over, MEANS)
        if self.prompt.count("{}") != 1 or self.prompt.count("{") + self.prompt.count("}") != 2:
            raise UserError(
                f"--prompt has {{}} once, for the tag, and no other brace: '{self.prompt}'"
            )
        _one_of("--precision", self.precision, PRECISIONS)
        _one_of("--normalisation", self.normalisation, NORMALISATIONS)
        for name in ("batch_size", "save_every", "log_every"):
            _at_least(name, getattr(self, name), 1)
        for name in ("blocks", "seed", "tag_weight", "text_weight", "weight_decay"):
            _at_least(name, getattr(self, name), 0)
        for name in ("lr", "clip_norm", "epochs"):
            if not getattr(self, name) > 0:
                raise UserError(f"{_flag(name)} is above 0, not {getattr(self, name)}")
        for name, least in (("steps", 1), ("workers", 0), ("size", 1), ("micro_batch", 1)):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), least)
        if not 0 <= self.least_probability < 1:
            raise UserError(
                f"--least-probability is at least 0 and below 1, not {self.least_probability}"
            )
        if self.tag_weight == self.text_weight == 0:
            raise UserError("with --tag-weight 0 and --text-weight 0 there is nothing to learn")
        if self.separate and self.tag_loss == GROUPVIT:
            raise UserError("--separate is for losses over the whole vocabulary, not for groupvit")
        if self.soft_labels and self.tag_loss not in SOFTMAX_LOSSES:
            raise UserError(
                f"--soft-labels is for --tag-loss {', '.join(SOFTMAX_LOSSES)}, not {self.tag_loss}"
            )
        if self.features is not None:
            self._check_features()
        if not self.name or "/" in self.name:
            raise UserError(f"--name is the name of a folder, not '{self.name}'")

    def _check_features(self) -> None:
        if not self.features:
            raise UserError("--features names a folder, and the name that was given is empty")
        if self.model.startswith(GROUPVIT_PREFIX):
            raise UserError(
                "--features are of a frozen encoder, and all of GroupViT's image side is trained: give --images"
            )
        asked = {
            name: neutral for name, neutral in AUGMENTING.items() if getattr(self, name) != neutral
        }
        if asked:
            given = ", ".join(f"{_flag(name)} {getattr(self, name)}" for name in asked)
            needed = " ".join(
                f"{_flag(name)} {value}" if value != "" else f"{_flag(name)} ''"
                for name, value in asked.items()
            )
            raise UserError(
                f"{given}: an augmentation needs pixels, and --features has none: give {needed}, or --images"
            )

    @property
    def image_path(self) -> ImagePath:
        return ImagePath(self.path, self.depth)

    @property
    def kernel(self) -> int:
        """Side of the projector's convolutions: 1 for a class token, which has no neighbours."""
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

    def augmentation(self, size: int, **colours: tuple[float, ...]) -> Augmentation:
        """The way from a file to pixels; `colours` are `mean` and `std` of `Augmentation`."""
        names = ("crop", "min_scale", "flip", "jitter", "interpolation", "randaugment", "erasing")
        return Augmentation(size, **{name: getattr(self, name) for name in names}, **colours)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def fixed(self) -> dict[str, Any]:
        """The settings that must be the same when a run is resumed."""
        return {key: value for key, value in asdict(self).items() if key not in MAY_CHANGE}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{flag} is one of {', '.join(known)}, not '{value}'")


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise UserError(f"{_flag(name)} is at least {least}, not {value}")
