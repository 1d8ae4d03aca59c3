"""How large the small world is and how often it is trained on: settings of `demo.py` and `ablations.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from common.flags import setting
from workflows.command import at_least, comma_list


@dataclass(frozen=True)
class Sizes:
    """How large the small world is, and which one.

    Epochs and learning rate of the trainings were chosen in world 0. The default is a world in which
    nothing was chosen.
    """

    train: int = setting(3000, "captioned scenes to train on", metavar="N")
    held_out: int = setting(300, "scenes of each benchmark", metavar="N")
    tuning: int = setting(100, "scenes on which scales and thresholds are chosen", metavar="N")
    world: int = setting(10, "number of the world, from which all its scenes follow", metavar="N")


@dataclass(frozen=True)
class Trainings(Sizes):
    """A small world and the trainings in it.

    Raises:
        UserError: a number below 1, a world below 0, or seeds that are not different numbers from 0 on.
    """

    epochs: int | None = setting(None, "passes over the scenes; default 4", metavar="N")
    seeds: tuple[int, ...] = comma_list(
        (0, 1, 2), "each setting is trained once with each", int, metavar="S,S,..."
    )

    def __post_init__(self) -> None:
        at_least(self, train=1, held_out=1, tuning=1, world=0, epochs=1)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise UserError("--seeds takes different numbers from 0 on, such as 0,1,2")

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.train, self.held_out, self.tuning, self.world)

    @property
    def changes(self) -> tuple[tuple[str, Any], ...]:
        """Settings of `training/train.py` that differ from those of `chain.TRAINING`."""
        return () if self.epochs is None else (("epochs", self.epochs),)
