"""Collectives over the ranks of a run; with a single process they are no-ops.

Shapes: b rows of one rank, R ranks.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from common.errors import UserError

TIMEOUT = timedelta(hours=2)  # the first rank indexes images and embeds tags while others wait


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


@contextlib.contextmanager
def process_group() -> Iterator[torch.device]:
    """Joins the process group that `torchrun` describes in the environment, and leaves it at the end.

    Without `torchrun` there is no group, and this only chooses the device.

    Yields:
        this rank's device: its own GPU (nccl), else the CPU (gloo).

    Raises:
        UserError: another rank has ended; its own message says why.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    on_gpu = torch.cuda.is_available()
    if on_gpu and local >= torch.cuda.device_count():
        raise UserError(
            f"there are more ranks than the {torch.cuda.device_count()} GPUs of this machine"
        )
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ:
        yield device
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield device
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "Connection" not in str(error):
            raise
        raise UserError(f"rank {rank()} stops, as another one is gone: see its message") from error
    finally:
        # Gloo's threads need the interpreter's lock to free the last tensors, and destroying the
        # group holds the lock while it waits for the threads: let them finish first.
        time.sleep(0.2)
        dist.destroy_process_group()


@contextlib.contextmanager
def first_rank_first() -> Iterator[None]:
    """Runs the block on the first rank, then on the others, which find its results in caches."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and world_size() > 1:
        dist.barrier()


def from_all_ranks(value: object) -> list:
    """One picklable value of every rank, in the order of ranks."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def from_first_rank(value: object) -> object:
    """The first rank's picklable value; the others' is not read."""
    values = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a tensor over ranks, in place; the same shape everywhere, no gradient."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def gather_rows(x: Tensor) -> Tensor:
    """Concatenates the rows of all ranks in the order of ranks: (b, ...) to (R * b, ...).

    The gradient of a row is the sum of the gradients of all ranks' losses. Every rank has the same
    number of rows.
    """
    return _GatherRows.apply(x) if world_size() > 1 else x


def gather_ragged(x: Tensor) -> list[Tensor]:
    """One tensor of integers of shape (n,) of every rank, where n differs; no gradient."""
    if world_size() == 1:
        return [x]
    sizes = [torch.empty(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(x)], device=x.device))
    longest = max(int(size) for size in sizes)
    padded = x.new_zeros(longest)  # (longest,)
    padded[: len(x)] = x
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return [part[: int(size)] for part, size in zip(gathered, sizes, strict=True)]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        gathered = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(gathered, x)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, grad_gathered):
        grad_gathered = grad_gathered.contiguous()  # (R * b, ...)
        dist.all_reduce(grad_gathered)
        return grad_gathered.chunk(world_size())[rank()]  # (b, ...)
