"""Where batches of captions are computed: in this process, or as Ray tasks. The results are the same."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from parsing import cluster
from parsing.errors import UserError

Result = TypeVar("Result")
MODULES = ("parsing", "prompts", "labels")
_IN_FLIGHT_PER_CORE = 2


class Mapper(Protocol):
    """Calls a function on each of some batches; results come in the order of the batches.

    Attributes:
        spreads: whether more batches than one are computed at once, so that it pays to cut.
    """

    spreads: bool

    def __call__(
        self, function: Callable[..., Result], batches: Sequence[Any], *shared: Any
    ) -> Iterator[Result]: ...


class Here:
    """In this process, with one batch computed ahead while the last one is being written."""

    spreads = False

    def __call__(self, function, batches, *shared):
        with ThreadPoolExecutor(1) as pool:
            waiting = deque()
            for batch in batches:
                waiting.append(pool.submit(function, batch, *shared))
                if len(waiting) > 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


class OnRay:
    """As tasks of one core each on a Ray cluster that this process has joined.

    Every node has to see the tags folder under the same name.
    """

    spreads = True

    def __call__(self, function, batches, *shared):
        import ray

        references = [ray.put(value) for value in shared]
        task = ray.remote(num_cpus=1, max_retries=3)(function)
        limit = max(2, _IN_FLIGHT_PER_CORE * int(ray.cluster_resources().get("CPU", 1)))
        waiting = deque()
        try:
            for batch in batches:
                waiting.append(task.remote(batch, *references))
                if len(waiting) >= limit:
                    yield ray.get(waiting.popleft())
            while waiting:
                yield ray.get(waiting.popleft())
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, UserError):
                raise cause from error
            raise UserError(f"a Ray task failed: {cause or error}") from error
        except ray.exceptions.RayError as error:
            raise UserError(f"the Ray cluster failed: {error}") from error


@contextlib.contextmanager
def mapper(on_ray: bool, address: str | None) -> Iterator[Mapper]:
    """The one that was asked for, connected for as long as the block lasts.

    Raises:
        UserError: no Ray cluster answers.
    """
    if not on_ray:
        yield Here()
        return
    with cluster.connected(address, MODULES):
        yield OnRay()
