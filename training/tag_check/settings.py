"""The settings of a check of tags, in one frozen dataclass that checks itself."""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass
from pathlib import Path

from common.errors import UserError
from common.flags import setting
from training.clip import MODEL, WEIGHTS
from training.groupvit import PREFIX as GROUPVIT_PREFIX
from training.settings import CLIP_OWN, NORMALISATIONS
from training.surgery import MODES, SURGERY, ImagePath

BOTH, PATCHES, PICTURE = "both", "patches", "picture"
EVIDENCE = (BOTH, PATCHES, PICTURE)
MAX, TOP = "max", "top"
POOLS = (MAX, TOP)
OBJECT, PHRASES = "object", "phrases"
ATTRIBUTES = (OBJECT, PHRASES)
ALL = "all"


@dataclass(frozen=True)
class Keep:
    """Which tags stay.

    Attributes:
        threshold: smallest score of a tag that stays; None where `share` decides.
        share: of the judged tags, those with the best scores; None where `threshold` decides.
    """

    threshold: float | None
    share: float | None = None

    @classmethod
    def read(cls, text: str) -> Keep:
        """`all`, a score such as `0.5`, or a share such as `90%`.

        Raises:
            UserError: it is none of them.
        """
        if text == ALL:
            return cls(0.0)
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            number = -1.0
        if text.endswith("%") and 0 < number <= 100:
            return cls(None, number / 100)
        if not text.endswith("%") and 0 <= number <= 1:
            return cls(number)
        raise UserError(
            f"--keep is {ALL}, a score from 0 to 1, or a share such as 90%, not '{text}'"
        )


@dataclass(frozen=True)
class Settings:
    """Settings of `training/check_tags.py`; every field is a flag of the same name.

    Raises:
        UserError: a value is unknown or out of its range.
    """

    labels: str = setting(MISSING, "label file made by labels/build_vocab.py", metavar="FILE")
    out: str = setting(MISSING, "label file to write, with scores", metavar="FILE")
    images: str = setting(
        "data/images",
        "folder or glob of webdataset shards, or folder of images",
        metavar="PLACE",
    )
    key_field: str | None = setting(
        None,
        "join images and labels by this field of each image's .json, for example url",
        metavar="FIELD",
    )
    keep: str = setting(
        "0.4",
        "tags that stay: all, those with at least this score (a probability), or a share such as 90%",
        metavar="X",
    )
    cache: str = setting(
        "data/cache", "folder for the index of images and the embeddings of tags", metavar="DIR"
    )
    model: str = setting(
        MODEL, "open_clip name, hf-hub:ORG/REPO, or folder of a saved model", metavar="NAME"
    )
    weights: str | None = setting(
        WEIGHTS, "open_clip's name of the weights, or a local file", metavar="NAME"
    )
    quick_gelu: bool | None = setting(
        None, "activation of OpenAI's models; default where the weights are known to need it"
    )
    path: str = setting(
        SURGERY,
        "how patch tokens are read: CLIP Surgery, another last block, or the unchanged ViT (none)",
        choices=MODES,
    )
    depth: int = setting(6, "number of last blocks that CLIP Surgery runs beside", metavar="N")
    evidence: str = setting(
        BOTH, "what is compared with a tag: patches, the whole picture's token, or both",
        choices=EVIDENCE,
    )  # fmt: skip
    pool: str = setting(
        MAX, "of the patches: the best one, or the mean of the best 5%", choices=POOLS
    )
    attributes: str = setting(
        OBJECT,
        "an attribute is judged by its object alone, or also by phrases such as 'red ball'",
        choices=ATTRIBUTES,
    )
    sample: int = setting(50_000, "random pictures that the statistics come from", metavar="N")
    size: int | None = setting(
        None, "pixels of the side of the square images; default the model's", metavar="N"
    )
    normalisation: str = setting(
        CLIP_OWN,
        "mean and standard deviation of pixels: those that CLIP was trained with, or ImageNet's",
        choices=NORMALISATIONS,
    )
    batch_size: int = setting(256, "images that a rank encodes at once", metavar="N")
    chunk: int = setting(8192, "images between two commits", metavar="N")
    workers: int | None = setting(
        None, "processes of each rank that load images; default one per core, at most 8",
        metavar="N",
    )  # fmt: skip
    features: str | None = setting(
        None, "also keep the frozen tokens, in float16, in this folder, for training", metavar="DIR"
    )
    page: int = setting(24, "pictures on the page OUT.html; 0 writes none", metavar="N")
    seed: int = setting(0, "of the sample and of the other captions' tags", metavar="N")

    def __post_init__(self) -> None:
        try:
            ImagePath(self.path, self.depth)
        except ValueError as error:
            raise UserError(str(error)) from error
        for flag, value, known in (
            ("--evidence", self.evidence, EVIDENCE),
            ("--pool", self.pool, POOLS),
            ("--attributes", self.attributes, ATTRIBUTES),
            ("--normalisation", self.normalisation, NORMALISATIONS),
        ):
            if value not in known:
                raise UserError(f"{flag} is one of {', '.join(known)}, not '{value}'")
        Keep.read(self.keep)
        for name, least in (
            ("sample", 2), ("batch_size", 1), ("chunk", 1), ("workers", 0), ("size", 1),
            ("page", 0), ("seed", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} is at least {least}, not {value}")
        if self.model.startswith(GROUPVIT_PREFIX):
            raise UserError("tags are checked by a CLIP, and GroupViT has no frozen image path")
        if not self.out.endswith(".parquet"):
            raise UserError(f"--out names a .parquet file, not '{self.out}'")
        if Path(self.out).resolve() == Path(self.labels).resolve():
            raise UserError("--out is the file of --labels: name another, so that nothing is lost")

    @property
    def image_path(self) -> ImagePath:
        return ImagePath(self.path, self.depth)

    @property
    def work(self) -> str:
        """The folder of the measurements, from which a check goes on, or decides with another --keep."""
        return f"{self.out.removesuffix('.parquet')}.check"

    @property
    def num_workers(self) -> int:
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return min(max(cores, 1), 8)
