"""What a student is trained on, and how."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.flags import setting

# Neither changes the student: a training goes on whatever they are.
_NO_PART = ("output", "test", "save_steps")


@dataclass(frozen=True)
class DistillSettings:
    """Settings of `parsing/distill.py`; every field is a flag of the same name.

    Raises:
        UserError: there is nothing to learn from, or a number is out of its range.
    """

    teacher: tuple[str, ...] = setting(
        (),
        "folder that parsing/run.py has finished, whose answers are learned; DIR:WEIGHT takes every "
        "caption WEIGHT times an epoch (0.5: half of them); repeat for several",
        metavar="DIR[:WEIGHT]",
        action="append",
    )
    gold: tuple[str, ...] = setting(
        (),
        "captions with gold tags, FACTUAL's .csv or .jsonl; repeat for several",
        metavar="FILE[:WEIGHT]",
        action="append",
    )
    test: tuple[str, ...] = setting(
        (),
        "gold that is only scored, beside the held-out share; repeat for several",
        metavar="FILE",
        action="append",
    )
    base: str = setting(
        "smollm2", "model to start from: a preset, hub id or folder", metavar="NAME"
    )
    output: str = setting("data/student", "folder of the student", metavar="DIR")
    prompt: str = setting("student", "what the student is asked: see prompts/", metavar="NAME")
    full: bool = setting(False, "train all weights but the embeddings, not a LoRA adapter")
    rank: int = setting(24, "of the LoRA adapter, which sits on every linear layer", metavar="N")
    dropout: float = setting(
        0.0,
        "of the adapter's inputs; 0.05 suits a few thousand captions, and is slow on a CPU",
        metavar="X",
    )
    recase: float = setting(
        0.0,
        "share of the captions that are learned in lower, upper or title case, so that titles are "
        "read as any other text",
        metavar="X",
    )
    members: int = setting(
        1,
        "models trained one after another, whose mean is the student; 0: the mean of --average-with alone",
        metavar="N",
    )
    average_with: tuple[str, ...] = setting(
        (),
        "finished student of the same base whose adapter counts as WEIGHT more members (1); repeat for several",
        metavar="DIR[:WEIGHT]",
        action="append",
    )
    start_from: str = setting(
        "",
        "finished student of the same base whose adapter is trained on, in place of a new one",
        metavar="DIR",
    )
    epochs: float = setting(1.0, "passes over the weighted captions of each member", metavar="N")
    batch: int = setting(16, "captions of an optimiser step, over all processes", metavar="N")
    lr: float = setting(1.5e-3, "highest learning rate; 4e-4 suits --full", metavar="X")
    max_tokens: int = setting(256, "longer captions with their answers are left out", metavar="N")
    held_out: float = setting(0.02, "share of each source that is scored, not learned", metavar="X")
    max_held_out: int = setting(500, "captions held out of a source at most", metavar="N")
    save_steps: int = setting(200, "steps between two checkpoints", metavar="N")
    seed: int = setting(0, "of the adapter, of the captions drawn and of their order", metavar="N")

    def __post_init__(self) -> None:
        if not self.teacher and not self.gold:
            raise UserError("nothing to learn from: give --teacher DIR or --gold FILE")
        for name in ("rank", "batch", "save_steps", "max_held_out"):
            if getattr(self, name) < 1:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} must be at least 1, not {getattr(self, name)}")
        if self.members < 0 or not (self.members or self.average_with):
            raise UserError(
                f"--members {self.members} makes no student: give 1 or more, or 0 with --average-with"
            )
        for name in ("epochs", "lr"):
            if not getattr(self, name) > 0:
                raise UserError(f"--{name} must be above 0, not {getattr(self, name):g}")
        if self.full and self.average_with:
            raise UserError("--average-with averages adapters: leave --full out")
        if self.full and self.start_from:
            raise UserError("--start-from trains an adapter on: leave --full out")
        for name in ("dropout", "recase"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(
                    f"--{name} must be at least 0 and below 1, not {getattr(self, name):g}"
                )
        if not 0 < self.held_out < 1:
            raise UserError(f"--held-out must lie between 0 and 1, not {self.held_out:g}")

    @property
    def folder(self) -> Path:
        return Path(self.output)

    @property
    def training_folder(self) -> Path:
        """Checkpoints, until the student is finished."""
        return self.folder.with_name(f"{self.folder.name}.training")

    def digest(self, data: dict[str, str]) -> str:
        """Changes with everything that changes the student.

        Args:
            data: source -> hash of what was read from it.
        """
        settings = {k: v for k, v in asdict(self).items() if k not in _NO_PART}
        return hashlib.sha256(json.dumps([settings, data], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SourceName:
    """`NAME[:WEIGHT]` of a flag."""

    name: str
    weight: float = 1.0

    @classmethod
    def of(cls, text: str, flag: str) -> SourceName:
        """Reads the flag's value.

        Raises:
            UserError: the weight is no positive number.
        """
        name, colon, weight = text.rpartition(":")
        if not colon or "/" in weight or Path(text).exists():
            return cls(text)
        try:
            value = float(weight)
        except ValueError:
            return cls(text)
        if not 0 < value <= 100:
            raise UserError(f"{flag} {text}: the weight must lie above 0 and up to 100")
        return cls(name, value)

    def about(self) -> dict[str, Any]:
        return {"name": Path(self.name).name, "weight": self.weight}
