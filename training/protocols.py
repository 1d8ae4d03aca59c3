"""Published ways to train, as values of `Settings`.

paper    the paper's text, and what it leaves open as simple as it can be: the default
release  the authors' code, `main` and `dev` alike

`training/README.md` compares them line by line. Single flags replace single values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import UserError
from training.losses import SOFTMAX
from training.settings import ALL, OF_FEATURES, PAPER, RELEASE, Settings

PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    PAPER: {},
    RELEASE: {
        "tag_loss": SOFTMAX,
        "mean_over": ALL,
        "least_probability": 1e-8,
        "prompt": "a photo of a {}.",
        "flip": 0.5,
        "randaugment": "rand-m9-mstd0.5-inc1",
        "erasing": 0.25,
        "interpolation": "bilinear",
        "decay_scalars": True,
        "steps": 30_000,
    },
}


def settings_of(protocol: str = PAPER, **given: Any) -> Settings:
    """A protocol's settings, some of them replaced.

    Raises:
        UserError: the protocol is unknown, or as `Settings`.
    """
    return Settings(protocol=protocol, **values_of(protocol, given) | given)


def values_of(protocol: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol's own values beside those that are given, and what kept features ask for.

    Raises:
        UserError: the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"--protocol is one of {', '.join(PROTOCOLS)}, not '{protocol}'")
    values = dict(PROTOCOLS[protocol])
    if "epochs" in given:  # the run's length is given, in another unit
        values.pop("steps", None)
    if given.get("features") is not None:
        values |= OF_FEATURES
    return values
