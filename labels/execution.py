"""Runs a function on batches of captions, in this process or as Ray tasks, with the same results."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from common.errors import UserError
from parsing.job import cluster

Result = TypeVar("Result")
MODULES = ("common", "parsing", "prompts", "labels")
_IN_FLIGHT_PER_CORE = 2


class Mapper(Protocol):
    """Calls `function(batch, *shared)` on every batch and yields results in the order of the batches.

    Attributes:
        is_parallel: several batches are computed at once, so that smaller batches pay off.
    """

    is_parallel: bool

    def __call__(
        self, function: Callable[..., Result], batches: Sequence[Any], *shared: Any
    ) -> Iterator[Result]: ...


class InProcess:
    """Computes in a thread of this process, one batch ahead of the one that the caller works on."""

    is_parallel = False

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
    """Computes in tasks of one core each on a Ray cluster that this process has joined.

    Every node must reach the tag folder at the same path or URL.
    """

    is_parallel = True

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
    """An `OnRay`, connected to the cluster while the block runs, or an `InProcess`.

    Args:
        on_ray: use Ray.
        address: of the cluster, see `parsing.job.cluster.connected`.

    Raises:
        UserError: no Ray cluster answers.
    """
    if not on_ray:
        yield InProcess()
        return
    with cluster.connected(address, MODULES):
        yield OnRay()
