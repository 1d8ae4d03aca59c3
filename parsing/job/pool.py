"""The Ray pool: one actor per parser. Assigns pieces to actors and replaces actors that die.

The driver holds all the state. When an actor dies, its pieces are assigned to another one. A piece
that has seen `MAX_DEATHS` actors die is split in half, until the caption that kills them is alone.
That caption becomes a failed row; the rest is parsed. So does a caption for which the parser raises.
What a node or Ray itself is to blame for is tried again, and no caption is suspected.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

from common.errors import UserError
from parsing.job import cluster
from parsing.job.endurance import Endurance, Limits
from parsing.job.faults import Fault, cause_of, judge, sentence
from parsing.job.member import Member
from parsing.job.piece import Piece
from parsing.job.progress import duration
from parsing.parser import ParserConfig

GROW_SECONDS = 5  # between two looks for nodes that joined the cluster
MOST_PENDING = 16  # actors asked for beyond the room there is, so that a cluster grows step by step
LONGEST_REFUSAL = 600.0  # seconds between two attempts to start where a parser refused to
IDLE_SECONDS = 0.1  # between two looks for the next shard, while parsers have nothing to do

Finished = tuple[Piece, pa.Table, dict[str, Any]]


class Pool:
    """Parsers on a cluster.

    Args:
        config: the parser.
        actors: how many, or None for as many as there is room for.
        wait: seconds to wait for room in the cluster, for clusters that grow on demand.
        elastic: whether nodes may join. One actor or more is then always asked for beyond the room
            there is: autoscalers go by actors that wait.
        limits: see `Limits`; `wait` is added to its room.
        say: called with one line for the user when something died, hangs or is waited for.
    """

    def __init__(
        self,
        config: ParserConfig,
        actors: int | None = None,
        wait: float = 0.0,
        elastic: bool = False,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        say: Callable[[str], None] = lambda line: None,
    ):
        self._config, self._say, self._elastic = config, say, elastic
        self._limits = replace(limits, room=limits.room + wait)
        self.resources = cluster.resolve(config.resources())
        self._members: list[Member] = []
        self._queue: deque[Piece] = deque()
        self._endurance = Endurance(self._limits)
        self._ever_ready = self._all_seen = False
        self._looked = self._pause_until = 0.0
        self._past = (0, 0)  # captions and tokens counted by actors that are gone
        self._past_seconds = 0.0
        self._refusals = 0
        self._useful = actors if actors is not None else 1 << 30
        if not wait and not cluster.room(self.resources):
            raise UserError(self._no_room())
        self._grow()

    # -- what the driver calls -----------------------------------------------------------------

    def run(
        self, pieces: Iterable[Piece | None], work: int | None = None
    ) -> Iterator[Finished | None]:
        """Parses pieces; yields them in the order in which they finish.

        Args:
            pieces: taken one by one as actors become free; None where the next one is not there yet.
            work: see `limit`.

        Yields:
            (piece, its tags, its stats) for every piece, and None at least once a second.
        """
        waiting = iter(pieces)
        if work is not None:
            self.limit(work)
        while True:
            self._grow()
            self._feed(waiting)
            if self._all_seen and not self._queue and not any(m.work for m in self._members):
                return
            yield from self._listen(timeout=IDLE_SECONDS if self._is_hungry() else 1.0)
            yield None

    def limit(self, work: int) -> None:
        """No more actors than `work` are of use; those that have nothing to do go."""
        self._useful = min(self._useful, work)
        order = sorted(self._members, key=lambda m: (not m.work, not m.ready, m.placed is None))
        for member in order[self._useful :]:
            if not member.work:
                self._remove(member)

    @property
    def ready(self) -> int:
        return sum(member.ready for member in self._members)

    @property
    def queued(self) -> int:
        """Pieces that wait for an actor."""
        return len(self._queue)

    def tally(self) -> tuple[int, int]:
        """Captions and output tokens finished so far, by living and dead actors."""
        counts = [self._past, *(member.tally for member in self._members)]
        return sum(c for c, _ in counts), sum(t for _, t in counts)

    def actor_seconds(self) -> float:
        """Seconds for which actors have held their resources, summed over actors."""
        now = time.monotonic()
        return self._past_seconds + sum(member.held(now) for member in self._members)

    def state(self) -> str:
        """What the pool does now, in a few words: for lines in which nothing else would move."""
        now = time.monotonic()
        starting = [m for m in self._members if m.placed is not None and not m.ready]
        if self.ready:
            busy = [now - m.moved for m in self._members if m.work]
            if not busy:
                return f"{self.ready} parsers wait for captions"
            return f"{self.ready} parsers, the last answer {duration(min(busy))} ago"
        if starting:
            longest = duration(max(m.held(now) for m in starting))
            return f"waiting for a parser to start, {len(starting)} at it for {longest}"
        if now < self._pause_until:
            return f"the next attempt in {duration(self._pause_until - now)}"
        waited = duration(self._endurance.waited_for_room)
        return f"waiting for room in the cluster for {waited} (it has {cluster.describe()})"

    def close(self) -> None:
        """Stops the parsers and releases their resources."""
        stops = [member.actor.stop.remote() for member in self._members if member.ready]
        ray.wait(stops, num_returns=len(stops), timeout=10) if stops else None
        while self._members:
            self._remove(self._members[-1])

    # -- actors --------------------------------------------------------------------------------

    def _grow(self) -> None:
        now = time.monotonic()
        if now < self._pause_until or (self._members and now - self._looked < GROW_SECONDS):
            return
        self._looked = now
        placed = sum(member.placed is not None for member in self._members)
        room = cluster.room(self.resources)
        if self._elastic:
            room = max(room, placed) + max(1, min(placed, MOST_PENDING))
        while len(self._members) < min(self._useful, room):
            self._members.append(Member.asked_for(self._config, self.resources))

    def _remove(self, member: Member) -> None:
        self._members.remove(member)
        self._past = tuple(a + b for a, b in zip(self._past, member.tally, strict=True))
        self._past_seconds += member.held(time.monotonic())
        ray.kill(member.actor)

    def _no_room(self) -> str:
        needs = [f"{self.resources.cpus:g} CPUs"] * bool(self.resources.cpus)
        needs += [f"{self.resources.gpus} GPUs"] * bool(self.resources.gpus)
        one = f"one parser of {' and '.join(needs)}"
        if cluster.room(self.resources):
            waited = duration(self._endurance.waited_for_room)
            return (
                f"the cluster has started not even {one} in {waited} (it has {cluster.describe()}), since "
                "other jobs hold its room or its nodes are overloaded: free or add a node, or give a "
                "longer --wait-for-room MINUTES"
            )
        return (
            f"the cluster has no room for {one} (it has {cluster.describe()}): free or add a node, ask "
            "for less, or give --wait-for-room MINUTES"
        )

    # -- pieces --------------------------------------------------------------------------------

    def _feed(self, waiting: Iterator[Piece | None]) -> None:
        if time.monotonic() < self._pause_until:
            return
        for full in range(1, self._config.concurrency + 1):  # one piece each before a second one
            for member in self._members:
                if not member.ready or len(member.work) >= full:
                    continue
                if not self._queue and not self._has_more(waiting):
                    return
                held = [*member.work.values(), self._queue[0]]
                if len(held) > 1 and any(piece.is_suspect for piece in held):
                    continue
                piece = self._queue.popleft()
                try:
                    member.give(piece)
                except RayError as error:
                    return self._ray_failed(piece, error)
        if not self._all_seen and not self._queue:
            self._has_more(waiting)

    def _has_more(self, waiting: Iterator[Piece | None]) -> bool:
        if not self._all_seen:
            try:
                piece = next(waiting)
            except StopIteration:
                self._all_seen = True
            else:
                self._queue.extend([] if piece is None else [piece])
        return bool(self._queue)

    def _is_hungry(self) -> bool:
        return any(m.ready and len(m.work) < self._config.concurrency for m in self._members) and (
            not self._all_seen
        )

    def _listen(self, timeout: float) -> list[Finished]:
        """Waits for results of actors and handles them; returns the finished pieces."""
        news = {ref: member for member in self._members for ref in member.references()}
        done = []
        if news:
            done, _ = ray.wait(list(news), num_returns=1, timeout=timeout)
        else:
            time.sleep(min(timeout, IDLE_SECONDS))
        if done:  # all other results that have arrived
            done, _ = ray.wait(list(news), num_returns=len(news), timeout=0)
        finished = []
        for ref in done:
            member = news[ref]
            if member not in self._members:  # removed a moment ago
                continue
            try:
                value = ray.get(ref)
            except Exception as error:  # Ray's own, and whatever the actor's code raised
                self._failed(member, ref, error)
            else:
                finished += self._note(member, ref, value)
        hopeless = [piece for piece in self._queue if piece.is_hopeless]
        self._queue = deque(piece for piece in self._queue if not piece.is_hopeless)
        finished += [(piece, *piece.failed()) for piece in hopeless]
        self._watch()
        return finished

    def _note(self, member: Member, ref: ray.ObjectRef, value: Any) -> list[Finished]:
        now = time.monotonic()
        if ref == member.placed_ref:
            member.placed, member.node = now, value["node"]
        elif ref == member.start_ref:
            member.ready = self._ever_ready = True
            member.moved = now
        elif ref == member.progress_ref:
            member.progress_ref = None
            if value != member.tally:
                member.tally, member.moved = value, now
        else:
            member.moved = now
            self._endurance.progress()
            return [(member.work.pop(ref), *value)]
        return []

    # -- what goes wrong -----------------------------------------------------------------------

    def _failed(self, member: Member, ref: ray.ObjectRef, error: Exception) -> None:
        fault, reason = judge(error), sentence(error)
        if fault is Fault.REFUSED:
            self._refused(member, reason)
        elif fault in (Fault.DIED, Fault.LOST):
            gone = member.node is not None and member.node not in cluster.living_nodes()
            self._lose(member, reason, blame=fault is Fault.DIED and not gone)
        elif fault is Fault.RAY and ref in member.work:
            self._ray_failed(member.work.pop(ref), error)
        elif fault is Fault.RAY and ref == member.progress_ref:
            member.progress_ref = None
        elif fault is Fault.RAY:
            self._lose(member, reason, blame=False)
        elif ref in member.work:
            self._judge(member.work.pop(ref), error)
        else:
            name = type(cause_of(error)).__name__
            raise RuntimeError(f"the start of the parser failed with {name}: {reason}") from error

    def _lose(self, member: Member, reason: str, blame: bool = True) -> None:
        """Handles a dead actor: queues its pieces again; `_grow` starts another actor.

        Args:
            blame: whether the parser or a piece may be at fault. A node that was preempted is not.
        """
        for piece in member.work.values():
            # At the end of the queue: other pieces finish between two attempts on a caption that
            # kills, which tells it from a parser that always dies.
            self._queue.extend(piece.after_death() if blame else [piece])
        was = f"with {len(member.work)} shards in hand" if member.ready else "while starting"
        self._remove(member)
        self._endurance.deaths += blame
        if self._endurance.too_many_deaths:
            raise UserError(f"parsers keep dying, the last one {was}: {reason}")
        what = "a parser died" if blame else "a parser was lost with its node"
        self._say(f"{what} {was} ({reason}); starting another{self._pause()}")

    def _refused(self, member: Member, reason: str) -> None:
        """Handles a parser that can't start or go on, by its own word.

        Fatal at its first attempt to start. Where others have started with the same settings, this
        node may be at fault, and where it had started, what it depends on.
        """
        self._queue.extend(member.work.values())
        was_ready = member.ready
        self._remove(member)
        self._endurance.deaths += 1
        if not self._ever_ready or self._endurance.too_many_deaths:
            raise UserError(reason)
        if was_ready:
            self._say(f"a parser stopped ({reason}); trying again{self._pause()}")
            return
        # Only this node's place is left empty for a while: the other parsers go on.
        self._refusals += 1
        pause = min(LONGEST_REFUSAL, 10.0 * 2.0 ** min(self._refusals, 10))
        self._looked = time.monotonic() + pause
        self._say(f"a parser did not start ({reason}); trying again in {duration(pause)}")

    def _ray_failed(self, piece: Piece, error: Exception) -> None:
        """Handles what Ray did not deliver or keep: an object lost or no room to spill it."""
        self._queue.append(piece)
        self._endurance.ray_faults += 1
        name = type(cause_of(error)).__name__
        if self._endurance.too_many_ray_faults:
            raise UserError(f"Ray keeps failing with {name}: {sentence(error)}")
        self._say(f"Ray failed ({name}: {sentence(error)}); a shard is sent again{self._pause()}")

    def _judge(self, piece: Piece, error: Exception) -> None:
        """Handles an exception of the parser: the caption that raises it is found by halving."""
        self._endurance.defects += 1
        what = f"{type(cause_of(error)).__name__}: {sentence(error)}"
        if self._endurance.too_many_defects:
            raise RuntimeError(f"the parser keeps failing with {what}") from error
        self._queue.extendleft(reversed(piece.after_error(what)))
        if len(piece.captions) == 1:
            self._say(f"a caption of shard {piece.shard} makes the parser fail ({what})")

    def _pause(self) -> str:
        """Sets the moment of the next attempt; says when that is."""
        pause = self._endurance.pause
        self._pause_until = time.monotonic() + pause
        self._looked = 0.0
        return f" in {duration(pause)}" if pause >= 1 else ""

    def _watch(self) -> None:
        now = time.monotonic()
        self._endurance.living(sum(member.placed is not None for member in self._members))
        if self._endurance.no_room_for_too_long(lambda: cluster.room(self.resources) > 0):
            raise UserError(self._no_room())
        for member in list(self._members):
            member.ask(now)
            if not member.ready and member.held(now) > self._limits.start:
                self._started_late(member)
            elif member.work and now - member.moved > self._limits.answer:
                self._lose(member, f"no answer for {duration(self._limits.answer)}")

    def _started_late(self, member: Member) -> None:
        limit = duration(self._limits.start)
        self._endurance.late_starts += 1
        if self._endurance.late_starts > 1 and not self._ever_ready:
            raise UserError(
                f"no parser has started within {limit}, in two attempts: look at the logs of its "
                "node, or give it longer with --start-limit MINUTES"
            )
        self._lose(member, f"it had not started within {limit}")
