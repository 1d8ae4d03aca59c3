"""Parsers that go wrong in ways that a real one may: actors import them from here."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ray import exceptions

from common.errors import UserError
from parsing.fake_parser import FakeConfig, FakeParser
from parsing.tags import Parsed


@dataclass(frozen=True)
class TroubledConfig(FakeConfig):
    """As the fake.

    Attributes:
        start_seconds: how long it takes to start.
        raises: a caption that holds this word raises a `ValueError`.
        refuses: a caption that holds this word raises a `UserError`, as long as the file `once` is
            not there; it is then.
        ray_error: name of an exception of Ray's that `parse` meets, as long as `once` is not there.
        once: see above.
    """

    start_seconds: float = 0.0
    raises: str | None = None
    refuses: str | None = None
    ray_error: str | None = None
    once: str | None = None

    def build(self) -> TroubledParser:
        time.sleep(self.start_seconds)
        return TroubledParser(self)


class TroubledParser(FakeParser):
    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        config = self._config
        if config.refuses and any(config.refuses in each for each in captions) and self._first():
            raise UserError("the node has forgotten the model")
        if config.raises and any(config.raises in each for each in captions):
            raise ValueError("this caption is beyond me")
        if config.ray_error and self._first():
            raise ray_error(config.ray_error)
        return super().parse(captions)

    def _first(self) -> bool:
        if self._config.once is None:
            return True
        try:
            Path(self._config.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def ray_error(name: str) -> exceptions.RayError:
    """An exception of Ray's with the arguments that it needs."""
    if name == "ObjectLostError":
        return exceptions.ObjectLostError(os.urandom(28).hex(), None, "")
    if name in ("OutOfMemoryError", "NodeDiedError"):
        return getattr(exceptions, name)("as Ray words it")
    if name == "ActorUnavailableError":
        return exceptions.ActorUnavailableError("as Ray words it", os.urandom(16))
    return getattr(exceptions, name)()
