"""One actor of the pool, and what the driver knows of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import ray

from parsing.job.piece import Piece
from parsing.job.secrets import Secrets
from parsing.job.worker import Worker
from parsing.parser import ParserConfig, Resources

PROGRESS_SECONDS = 2.0  # between two progress requests to one actor; each costs its engine a little


@dataclass(eq=False)
class Member:
    """One actor, from the moment it is requested. Times are those of `time.monotonic`.

    Attributes:
        placed: when Ray found a node for it; None while it waits for one.
        node: Ray's id of that node.
        ready: whether its parser has started.
        work: the pieces that it has, by the reference of their result.
        tally: captions and output tokens that it has finished.
        moved: when it last gave a sign of life: its start, a piece, or a tally that grew.
    """

    actor: Any
    placed_ref: ray.ObjectRef
    start_ref: ray.ObjectRef
    placed: float | None = None
    node: str | None = None
    ready: bool = False
    work: dict[ray.ObjectRef, Piece] = field(default_factory=dict)
    tally: tuple[int, int] = (0, 0)
    moved: float = 0.0
    progress_ref: ray.ObjectRef | None = None
    asked: float = 0.0

    @classmethod
    def asked_for(cls, config: ParserConfig, resources: Resources) -> Member:
        """A new actor. While it waits for room, it is the demand that an autoscaler sees."""
        actor = (
            ray.remote(Worker)
            .options(
                num_cpus=resources.cpus,
                num_gpus=resources.gpus,
                max_concurrency=config.concurrency + 2,  # and `placed` and `progress`
                max_restarts=0,
            )
            .remote(config)
        )
        return cls(actor, actor.placed.remote(), actor.start.remote(Secrets.of_this_process()))

    def references(self) -> list[ray.ObjectRef]:
        """References of all that this actor has not answered yet."""
        open_ones = [*self.work, self.progress_ref]
        open_ones += [] if self.ready else [self.start_ref]
        open_ones += [] if self.placed is not None else [self.placed_ref]
        return [ref for ref in open_ones if ref is not None]

    def give(self, piece: Piece) -> None:
        """Sends it a piece.

        Raises:
            ray.exceptions.RayError: the object store has no room for it.
        """
        ref = self.actor.parse.remote(piece.captions)
        if not self.work:
            self.moved = time.monotonic()
        self.work[ref] = piece

    def ask(self, now: float) -> None:
        """Asks for its tally, at most every `PROGRESS_SECONDS`."""
        if self.ready and self.progress_ref is None and now - self.asked > PROGRESS_SECONDS:
            self.progress_ref, self.asked = self.actor.progress.remote(), now

    def held(self, now: float) -> float:
        """Seconds for which it has held its resources."""
        return 0.0 if self.placed is None else now - self.placed
