"""What every parser is: a frozen configuration that travels, and the parser it builds in an actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from parsing.tags import Parsed


class Parser(Protocol):
    """Turns captions into tags. Built where it runs, and never sent anywhere."""

    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        """Says of each caption what it names, in the order given.

        A caption that cannot be parsed is a `Parsed` with a status, never an exception. The
        runner calls this from as many threads at once as `ParserConfig.concurrency` says.

        Raises:
            EngineDied: no later call can succeed; the runner replaces the actor and tries the
                shard again.
        """
        ...

    def close(self) -> None:
        """Lets go of processes and memory; the parser is not used again."""
        ...


@dataclass(frozen=True)
class Resources:
    """What one parser holds for as long as it lives.

    Attributes:
        cpus: logical cores that Ray sets aside; None takes all of the smallest node.
        gpus: GPUs of one node.
        most: parsers that a run starts where the user names no number; None starts as many as
            there is room for.
    """

    cpus: float | None = 1
    gpus: int = 0
    most: int | None = None


class ParserConfig(Protocol):
    """A frozen, picklable dataclass: all that is needed to build the parser on another machine."""

    name: str  # as given to --parser
    concurrency: int  # calls of `parse` that may run at once in one parser

    def check(self) -> None:
        """Looks, before a cluster is touched, for what would keep `build` from working.

        Raises:
            UserError: in one sentence, what is missing and how to get it.
        """
        ...

    def pinned(self) -> Self:
        """The same with the content of all that it names by a path, a name or a branch.

        The driver pins once. What an actor builds is then what the fingerprint says, whichever files
        lie on its node.

        Raises:
            UserError: as `check`.
        """
        ...

    def fingerprint(self) -> dict[str, Any]:
        """JSON of all that changes the tags and nothing else: parser, model, prompt, sampling."""
        ...

    def about(self) -> dict[str, Any]:
        """JSON for the manifest that changes no tags: the model's name, a student's provenance."""
        ...

    def resources(self) -> Resources: ...

    def build(self) -> Parser:
        """Loads models and starts engines; called once in each actor.

        Raises:
            UserError: as `check`, where only the attempt itself could tell.
        """
        ...
