"""A parser without a model: every word of four letters or more is an object.

It tries out a cluster, a disk or a recipe in minutes (`--parser fake`), and it lets the tests
kill, fail and slow down what surrounds a parser.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import regex

from common.errors import UserError
from parsing.parser import Resources
from parsing.tags import Parsed

_WORD = regex.compile(r"[\p{L}\p{M}]{4,}")


@dataclass(frozen=True)
class FakeConfig:
    """Settings of the fake.

    Attributes:
        seconds: how long one caption takes.
        broken: the sentence with which it refuses to start, or None.
        poison: a caption that holds this word kills the process that parses it.
        cpus, gpus: what it pretends to need.
    """

    seconds: float = 0.0
    broken: str | None = None
    poison: str | None = None
    cpus: float = 1
    gpus: int = 0
    name: str = "fake"
    concurrency: int = 2

    def check(self) -> None:
        pass

    def pinned(self) -> FakeConfig:
        return self

    def fingerprint(self) -> dict[str, Any]:
        return {"parser": self.name}

    def about(self) -> dict[str, Any]:
        return {}

    def resources(self) -> Resources:
        return Resources(cpus=self.cpus, gpus=self.gpus)

    def build(self) -> FakeParser:
        if self.broken is not None:
            raise UserError(self.broken)
        return FakeParser(self)


class FakeParser:
    """See the module."""

    def __init__(self, config: FakeConfig):
        self._config = config

    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        return [self._parse(caption) for caption in captions]

    def close(self) -> None:
        pass

    def _parse(self, caption: str) -> Parsed:
        if self._config.poison is not None and self._config.poison in caption:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._config.seconds:
            time.sleep(self._config.seconds)
        words = dict.fromkeys(word.lower() for word in _WORD.findall(caption))
        return Parsed(objects=list(words))
