"""How large a demonstration is, and the flags that say so: of `demo.py` and `ablations.py` alike."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from parsing.errors import UserError


@dataclass(frozen=True)
class Sizes:
    """How large the small world is, and which one.

    Attributes:
        train: captioned scenes.
        held_out: scenes of each benchmark.
        tuning: scenes on which scales and thresholds are chosen.
        world: number of the world, from which all its scenes follow. Epochs and learning rate of
            the trainings were chosen in world 0; the default is one in which nothing was.
    """

    train: int = 3000
    held_out: int = 300
    tuning: int = 100
    world: int = 10


def check_trainings(sizes: Sizes, epochs: int | None, seeds: tuple[int, ...]) -> None:
    """That there can be a world and trainings of these numbers.

    Raises:
        UserError: a number below 1, a world below 0, or seeds that are no different numbers from 0 on.
    """
    for flag, value, least in (
        ("--train", sizes.train, 1),
        ("--held-out", sizes.held_out, 1),
        ("--tuning", sizes.tuning, 1),
        ("--world", sizes.world, 0),
        ("--epochs", 1 if epochs is None else epochs, 1),
    ):
        if value < least:
            raise UserError(f"{flag} is at least {least}, not {value}")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError("--seeds takes different numbers from 0 on, such as 0,1,2")


def add_training_flags(parser: argparse.ArgumentParser, seeds: tuple[int, ...]) -> None:
    """Adds --train, --held-out, --tuning, --world, --epochs and --seeds.

    Args:
        parser: to add them to.
        seeds: the default.
    """
    add = parser.add_argument
    add("--train", type=int, default=Sizes.train, metavar="N", help="scenes to train on")
    add("--held-out", type=int, default=Sizes.held_out, metavar="N", help="scenes to score on")
    add("--tuning", type=int, default=Sizes.tuning, metavar="N", help="scenes for thresholds")
    add(
        "--world", type=int, default=Sizes.world, metavar="N", help="which one; default %(default)s"
    )
    add("--epochs", type=int, metavar="N", help="passes over the scenes")
    default = ",".join(map(str, seeds))
    add("--seeds", default=default, metavar="S,S,...", help="trainings; default %(default)s")


def parse_seeds(text: str) -> tuple[int, ...]:
    """What --seeds names.

    Raises:
        UserError: it is no list of numbers.
    """
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError as error:
        raise UserError(f"--seeds takes numbers, not '{text}'") from error
