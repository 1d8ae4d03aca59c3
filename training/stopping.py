"""What ends a run before its last step: a signal, a loss that is no number, too many bad images."""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError


class Stopped(UserError):
    """The run was asked to stop and has saved a checkpoint."""

    def __init__(self, step: int, folder: str):
        super().__init__(
            f"stopped after step {step:,}, which is saved in {folder}: go on with --resume"
        )


class NotANumber(UserError):
    """The loss or its gradient is infinite or no number."""

    def __init__(self, step: int):
        super().__init__(
            f"the loss is no longer a number at step {step:,}: the last checkpoint stays; "
            "try a lower --lr"
        )


class StopSignals:
    """Notes SIGTERM and Ctrl-C.

    Attributes:
        came: whether this process got one. Ranks get theirs at different moments, so a rank stops
            only after all have reduced this over ranks.
    """

    def __init__(self) -> None:
        self.came = False

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Notes the signals of a block, and restores the earlier handlers after it."""

        def note(number: int, frame: Any) -> None:
            self.came = True

        earlier = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


class NumberWatch:
    """Looks at every step's figures for one that is no number, without waiting for a GPU.

    A GPU computes a step after the host has asked for it. Its answer is copied when it is there, and
    looked at in one of the next steps.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def see(self, step: int, figures: list[Tensor]) -> None:
        """Takes the figures of a step, of shape () each, on one device."""
        bad = ~torch.stack([figure.detach().float() for figure in figures]).isfinite().all()  # ()
        done = None
        if bad.is_cuda:
            bad = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(bad, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
        self._pending.append((step, bad, done))

    def found(self) -> int:
        """The first step that is known by now to have a figure that is no number; 0 if none is."""
        while self._pending and (self._pending[0][2] is None or self._pending[0][2].query()):
            step, bad, _ = self._pending.popleft()
            if bad:
                return step
        return 0
