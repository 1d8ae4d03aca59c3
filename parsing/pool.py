"""The Ray pool: one actor per parser, work handed out, actors replaced when they die.

The driver holds all the state. An actor that dies loses only the pieces it was given, which go to
another one. A piece in whose presence parsers keep dying is cut in half until the caption that
kills them stands alone; that caption becomes a failed row and the rest is parsed.
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

from parsing import cluster
from parsing.errors import EngineDied, UserError
from parsing.parser import ParserConfig
from parsing.tags import FAILED, Parsed, count_statuses, tags_table
from parsing.worker import Worker

MAX_DEATHS = 2  # a piece that saw this many parsers die is cut in half
MAX_STRIKES = 6  # deaths in a row, beyond one for each actor, with nothing finished in between
PLACE_SECONDS = 40  # how long an actor may wait for its place in the cluster
PULSE_SECONDS = 2.0  # between two questions to one actor: each takes a little of its engine's core
GROW_SECONDS = 5  # how often the cluster is looked at for nodes that came or came back


@dataclass(frozen=True)
class Piece:
    """Captions of one shard; all of it, unless parsers died on it.

    Attributes:
        shard: number of the shard.
        captions: schema `parsing.captions.CAPTIONS`.
        deaths: parsers that died while they had it.
    """

    shard: int
    captions: pa.Table
    deaths: int = 0

    def after_death(self) -> list[Piece]:
        """What to try next: the same again, or two halves."""
        deaths, rows = self.deaths + 1, len(self.captions)
        if deaths < MAX_DEATHS or rows == 1:
            return [Piece(self.shard, self.captions, deaths)]
        half = rows // 2
        return [
            Piece(self.shard, self.captions.slice(a, b), 1) for a, b in ((0, half), (half, rows))
        ]

    @property
    def is_suspect(self) -> bool:
        """Parsed alone, so that no other piece is blamed for what this one does."""
        return self.deaths > 0

    @property
    def is_hopeless(self) -> bool:
        return len(self.captions) == 1 and self.deaths > MAX_DEATHS

    def failed(self) -> tuple[pa.Table, dict[str, Any]]:
        """The rows of a piece that cannot be parsed."""
        error = f"{self.deaths} parsers died while they had this caption"
        parsed = [Parsed(status=FAILED, error=error) for _ in range(len(self.captions))]
        ids, texts = (self.captions[name].to_pylist() for name in ("caption_id", "caption"))
        stats = {"rows": len(parsed), "statuses": count_statuses(parsed)}
        return tags_table(ids, texts, parsed), stats


@dataclass
class _Member:
    """One actor as the driver sees it."""

    actor: Any
    hello: ray.ObjectRef
    start: ray.ObjectRef
    created: float
    placed: bool = False
    ready: bool = False
    work: dict[ray.ObjectRef, Piece] = field(default_factory=dict)
    pulse: ray.ObjectRef | None = None
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
        self._strikes = self._target = 0
        self._began = self._looked = time.monotonic()
        self._past = (0, 0)  # captions and tokens counted by actors that are gone
        self._lost_seconds = 0.0
        self._useful = actors if actors is not None else 1 << 30
        if not wait and not cluster.room(self.resources):
            raise UserError(self._no_room())
        self._grow()

    # -- what the driver calls ---------------------------------------------------------------

    def check(self) -> None:
        """Raises what went wrong with the start of the actors, if anything did.

        Raises:
            UserError: the parser's own reason, or why there is no room for it.
        """
        self._listen(timeout=0)

    def run(
        self, pieces: Iterable[Piece], work: int
    ) -> Iterator[tuple[Piece, pa.Table, dict] | None]:
        """Parses pieces in whatever order they finish.

        Args:
            pieces: taken one by one as actors have room.
            work: how many there are at most; more actors than that are not started.

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
        """Captions and output tokens finished so far, by all actors there have been."""
        counts = [self._past, *(member.tally for member in self._members)]
        return sum(c for c, _ in counts), sum(t for _, t in counts)

    def actor_seconds(self) -> float:
        """How long the actors have held their share of the cluster, summed over actors."""
        now = time.monotonic()
        return self._lost_seconds + sum(now - m.created for m in self._members if m.placed)

    def close(self) -> None:
        """Stops the parsers and gives their share of the cluster back."""
        stops = [member.actor.stop.remote() for member in self._members if member.ready]
        ray.wait(stops, num_returns=len(stops), timeout=10) if stops else None
        while self._members:
            self._remove(self._members[-1])

    # -- actors ------------------------------------------------------------------------------

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
                max_concurrency=self._config.concurrency + 2,  # and hello and pulse
                max_restarts=0,
            )
            .remote(self._config)
        )
        return _Member(actor, actor.hello.remote(), actor.start.remote(), time.monotonic())

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

    # -- work --------------------------------------------------------------------------------

    def _feed(self, waiting: Iterator[Piece]) -> None:
        for full in range(1, self._config.concurrency + 1):  # one each first, then a second one
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
        """Waits for news of any actor and acts on it; returns the pieces that are finished."""
        news: dict[ray.ObjectRef, _Member] = {}
        for member in self._members:
            refs = [*member.work, member.pulse]
            refs += [] if member.ready else [member.start]
            refs += [] if member.placed else [member.hello]
            news |= {ref: member for ref in refs if ref is not None}
        done, _ = ray.wait(list(news), num_returns=1, timeout=timeout) if news else ([], [])
        if done:  # whatever else has come in the meantime
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
        if ref == member.hello:
            member.placed = True
        elif ref == member.start:
            member.ready = True
        elif ref == member.pulse:
            member.pulse = None
            if value != member.tally:
                member.tally, member.moved = value, time.monotonic()
        else:
            piece = member.work.pop(ref)
            member.moved = time.monotonic()
            self._strikes = 0
            return [(piece, *value)]
        return []

    def _lose(self, member: _Member, reason: str) -> None:
        """An actor is gone: its pieces are queued again, and another actor will be started."""
        self._strikes += 1
        for piece in member.work.values():
            # At the end: between two attempts on a killing caption something else gets finished,
            # and that tells a caption that kills from a parser that always dies.
            self._queue.extend(piece.after_death())
        was = f"with {len(member.work)} shards in hand" if member.ready else "while starting"
        self._remove(member)
        if self._strikes > MAX_STRIKES + self._target:
            raise UserError(f"parsers keep dying, the last one {was}: {reason}")
        self._say(f"a parser died {was} ({reason}); starting another")

    def _refused(self, member: _Member, reason: str) -> None:
        """A parser says why it cannot start. Others that run show that the settings are right."""
        self._remove(member)
        self._strikes += 1
        if not self.ready or self._strikes > MAX_STRIKES:
            raise UserError(reason)
        self._say(f"a parser did not start ({reason}); trying again")

    def _blame(self, member: _Member, ref: ray.ObjectRef, error: RayError) -> None:
        """An exception that no parser should let out: a defect, told with its origin."""
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
            if member.ready and member.pulse is None and now - member.asked > PULSE_SECONDS:
                member.pulse, member.asked = member.actor.pulse.remote(), now
            if not member.placed and not self.ready and now - member.created > self._patience:
                raise UserError(self._no_room())
            if member.work and now - member.moved > self._stall:
                self._lose(member, f"nothing finished for {self._stall:.0f} s")


def _reason(error: BaseException) -> str:
    """The first line of what was raised in the actor, without Ray's traceback around it."""
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
