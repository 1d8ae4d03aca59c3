"""The Ray pool: one actor per parser. Assigns shards to actors and replaces actors that die.

The driver holds all the state. When an actor dies, its pieces are assigned to another one. A piece
that has seen `MAX_DEATHS` actors die is split in half, until the caption that kills them is alone.
That caption becomes a failed row; the rest is parsed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayActorError, RayError

from common.errors import EngineDied, UserError
from parsing.job import cluster
from parsing.job.worker import Worker
from parsing.parser import ParserConfig
from parsing.tags import FAILED, Parsed, count_statuses, tags_table

MAX_DEATHS = 2  # of actors that had a piece, before the piece is split in half
MAX_DEATHS_WITHOUT_PROGRESS = 6  # in a row, beyond one for each actor
PLACE_SECONDS = 40  # that an actor may wait for its resources
PROGRESS_SECONDS = 2.0  # between two progress requests to one actor; each costs its engine a little
GROW_SECONDS = 5  # between two looks for nodes that joined the cluster


@dataclass(frozen=True)
class Piece:
    """Captions of one shard: the whole shard, or a part of it after a crash.

    Attributes:
        shard: number of the shard.
        captions: schema `parsing.source.captions.CAPTIONS`.
        deaths: parsers that died while they had it.
    """

    shard: int
    captions: pa.Table
    deaths: int = 0

    def after_death(self) -> list[Piece]:
        """The pieces to try next: this one again, or its two halves."""
        deaths, rows = self.deaths + 1, len(self.captions)
        if deaths < MAX_DEATHS or rows == 1:
            return [Piece(self.shard, self.captions, deaths)]
        half = rows // 2
        return [
            Piece(self.shard, self.captions.slice(a, b), 1) for a, b in ((0, half), (half, rows))
        ]

    @property
    def is_suspect(self) -> bool:
        """Whether an actor died on it. It then runs alone, so that no other piece is blamed."""
        return self.deaths > 0

    @property
    def is_hopeless(self) -> bool:
        return len(self.captions) == 1 and self.deaths > MAX_DEATHS

    def failed(self) -> tuple[pa.Table, dict[str, Any]]:
        """Tags and stats of a piece that cannot be parsed: failed rows."""
        error = f"{self.deaths} parsers died while they had this caption"
        parsed = [Parsed(status=FAILED, error=error) for _ in range(len(self.captions))]
        ids, texts = (self.captions[name].to_pylist() for name in ("caption_id", "caption"))
        stats = {"rows": len(parsed), "statuses": count_statuses(parsed)}
        return tags_table(ids, texts, parsed), stats


@dataclass
class _Member:
    """One actor and the state that the driver keeps of it."""

    actor: Any
    placed_ref: ray.ObjectRef
    start_ref: ray.ObjectRef
    created: float
    placed: bool = False
    ready: bool = False
    work: dict[ray.ObjectRef, Piece] = field(default_factory=dict)
    progress_ref: ray.ObjectRef | None = None
    asked: float = 0.0
    tally: tuple[int, int] = (0, 0)
    moved: float = 0.0


class Pool:
    """Parsers on a cluster.

    Args:
        config: the parser.
        actors: how many, or None for as many as there is room for.
        wait: seconds to wait for room in the cluster, for clusters that grow on demand.
        stall: seconds without a single finished caption after which an actor with work counts
            as dead.
        say: called with one line for the user when an actor dies or comes back.
    """

    def __init__(
        self,
        config: ParserConfig,
        actors: int | None = None,
        wait: float = 0.0,
        stall: float = 900.0,
        say: Callable[[str], None] = lambda line: None,
    ):
        self._config, self._say = config, say
        self._patience, self._stall = PLACE_SECONDS + wait, stall
        self.resources = cluster.resolve(config.resources())
        self._members: list[_Member] = []
        self._queue: deque[Piece] = deque()
        self._deaths_without_progress = self._target = 0
        self._began = self._looked = time.monotonic()
        self._past = (0, 0)  # captions and tokens counted by actors that are gone
        self._lost_seconds = 0.0
        self._useful = actors if actors is not None else 1 << 30
        if not wait and not cluster.room(self.resources):
            raise UserError(self._no_room())
        self._grow()

    def check(self) -> None:
        """Raises the error with which an actor failed to start, if one did.

        Raises:
            UserError: the parser's own reason, or why there is no room for it.
        """
        self._listen(timeout=0)

    def run(
        self, pieces: Iterable[Piece], work: int
    ) -> Iterator[tuple[Piece, pa.Table, dict] | None]:
        """Parses pieces; yields them in the order in which they finish.

        Args:
            pieces: taken one by one as actors become free.
            work: the largest number of pieces; no more actors than that are started.

        Yields:
            (piece, its tags, its stats) for every piece, and None at least once a second.
        """
        waiting = iter(pieces)
        self._useful = min(self._useful, work)
        for member in self._members[self._useful :]:  # started before the work was known
            self._remove(member)
        while True:
            self._grow()
            self._feed(waiting)
            if not self._queue and not any(member.work for member in self._members):
                if not self._has_more(waiting):
                    return
                continue
            yield from self._listen(timeout=1.0)
            yield None

    @property
    def ready(self) -> int:
        return sum(member.ready for member in self._members)

    def tally(self) -> tuple[int, int]:
        """Captions and output tokens finished so far, by living and dead actors."""
        counts = [self._past, *(member.tally for member in self._members)]
        return sum(c for c, _ in counts), sum(t for _, t in counts)

    def actor_seconds(self) -> float:
        """Seconds for which actors have held their resources, summed over actors."""
        now = time.monotonic()
        return self._lost_seconds + sum(now - m.created for m in self._members if m.placed)

    def close(self) -> None:
        """Stops the parsers and releases their resources."""
        stops = [member.actor.stop.remote() for member in self._members if member.ready]
        ray.wait(stops, num_returns=len(stops), timeout=10) if stops else None
        while self._members:
            self._remove(self._members[-1])

    def _grow(self) -> None:
        now = time.monotonic()
        if self._members and now - self._looked < GROW_SECONDS:
            return
        self._looked = now
        self._target = min(self._useful, cluster.room(self.resources))
        while len(self._members) < self._target:
            self._members.append(self._new_member())
        if not self._members and now - self._began > self._patience:
            raise UserError(self._no_room())

    def _new_member(self) -> _Member:
        actor = (
            ray.remote(Worker)
            .options(
                num_cpus=self.resources.cpus,
                num_gpus=self.resources.gpus,
                max_concurrency=self._config.concurrency + 2,  # and `placed` and `progress`
                max_restarts=0,
            )
            .remote(self._config)
        )
        return _Member(actor, actor.placed.remote(), actor.start.remote(), time.monotonic())

    def _remove(self, member: _Member) -> None:
        self._members.remove(member)
        self._past = tuple(a + b for a, b in zip(self._past, member.tally, strict=True))
        self._lost_seconds += time.monotonic() - member.created if member.placed else 0
        ray.kill(member.actor)

    def _no_room(self) -> str:
        needs = [f"{self.resources.cpus:g} CPUs"] * bool(self.resources.cpus)
        needs += [f"{self.resources.gpus} GPUs"] * bool(self.resources.gpus)
        return (
            f"the cluster has no room for one parser of {' and '.join(needs)} (it has "
            f"{cluster.describe()}): free or add a node, ask for less, or give --wait-for-room MINUTES"
        )

    def _feed(self, waiting: Iterator[Piece]) -> None:
        for full in range(1, self._config.concurrency + 1):  # one piece each before a second one
            for member in self._members:
                if not member.ready or len(member.work) >= full:
                    continue
                if not self._queue and not self._has_more(waiting):
                    return
                held = [*member.work.values(), self._queue[0]]
                if len(held) == 1 or not any(piece.is_suspect for piece in held):
                    self._give(member, self._queue.popleft())

    def _has_more(self, waiting: Iterator[Piece]) -> bool:
        piece = next(waiting, None)
        if piece is not None:
            self._queue.append(piece)
        return bool(self._queue)

    def _give(self, member: _Member, piece: Piece) -> None:
        if not member.work:
            member.moved = time.monotonic()
        member.work[member.actor.parse.remote(piece.captions)] = piece

    def _listen(self, timeout: float) -> list[tuple[Piece, pa.Table, dict]]:
        """Waits for results of actors and handles them; returns the finished pieces."""
        news: dict[ray.ObjectRef, _Member] = {}
        for member in self._members:
            refs = [*member.work, member.progress_ref]
            refs += [] if member.ready else [member.start_ref]
            refs += [] if member.placed else [member.placed_ref]
            news |= {ref: member for ref in refs if ref is not None}
        done, _ = ray.wait(list(news), num_returns=1, timeout=timeout) if news else ([], [])
        if done:  # all other results that have arrived
            done, _ = ray.wait(list(news), num_returns=len(news), timeout=0)
        finished = []
        for ref in done:
            member = news[ref]
            if member not in self._members:  # removed a moment ago
                continue
            try:
                value = ray.get(ref)
            except (EngineDied, RayActorError) as error:
                self._lose(member, _reason(error))
            except UserError as error:
                self._refused(member, _reason(error))
            except RayError as error:
                self._blame(member, ref, error)
            else:
                finished += self._note(member, ref, value)
        finished += self._give_up()
        self._watch()
        return finished

    def _note(self, member: _Member, ref: ray.ObjectRef, value: Any) -> list:
        if ref == member.placed_ref:
            member.placed = True
        elif ref == member.start_ref:
            member.ready = True
        elif ref == member.progress_ref:
            member.progress_ref = None
            if value != member.tally:
                member.tally, member.moved = value, time.monotonic()
        else:
            piece = member.work.pop(ref)
            member.moved = time.monotonic()
            self._deaths_without_progress = 0
            return [(piece, *value)]
        return []

    def _lose(self, member: _Member, reason: str) -> None:
        """Handles a dead actor: queues its pieces again; `_grow` starts another actor."""
        self._deaths_without_progress += 1
        for piece in member.work.values():
            # At the end of the queue: other pieces finish between two attempts on a caption that
            # kills, which tells it from a parser that always dies.
            self._queue.extend(piece.after_death())
        was = f"with {len(member.work)} shards in hand" if member.ready else "while starting"
        self._remove(member)
        if self._deaths_without_progress > MAX_DEATHS_WITHOUT_PROGRESS + self._target:
            raise UserError(f"parsers keep dying, the last one {was}: {reason}")
        self._say(f"a parser died {was} ({reason}); starting another")

    def _refused(self, member: _Member, reason: str) -> None:
        """Handles a parser that cannot start: fatal unless other parsers run with the same settings."""
        self._remove(member)
        self._deaths_without_progress += 1
        if not self.ready or self._deaths_without_progress > MAX_DEATHS_WITHOUT_PROGRESS:
            raise UserError(reason)
        self._say(f"a parser did not start ({reason}); trying again")

    def _blame(self, member: _Member, ref: ray.ObjectRef, error: RayError) -> None:
        """Raises an exception that no parser should raise: a defect in this project."""
        cause = getattr(error, "cause", None) or error
        what = "the parser" if ref in member.work else "the start of the parser"
        raise RuntimeError(
            f"{what} failed with {type(cause).__name__}: {_reason(error)}"
        ) from error

    def _give_up(self) -> list:
        hopeless = [piece for piece in self._queue if piece.is_hopeless]
        self._queue = deque(piece for piece in self._queue if not piece.is_hopeless)
        return [(piece, *piece.failed()) for piece in hopeless]

    def _watch(self) -> None:
        now = time.monotonic()
        for member in list(self._members):
            if (
                member.ready
                and member.progress_ref is None
                and now - member.asked > PROGRESS_SECONDS
            ):
                member.progress_ref, member.asked = member.actor.progress.remote(), now
            if not member.placed and not self.ready and now - member.created > self._patience:
                raise UserError(self._no_room())
            if member.work and now - member.moved > self._stall:
                self._lose(member, f"nothing finished for {self._stall:.0f} s")


def _reason(error: BaseException) -> str:
    """The first line of what was raised in the actor, without Ray's traceback around it."""
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
