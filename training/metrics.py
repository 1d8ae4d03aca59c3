"""Reports a run's metrics to the terminal, `metrics.jsonl`, TensorBoard and Weights & Biases."""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from common.errors import UserError
from common.storage import Folder

METRICS = "metrics.jsonl"


class Stopwatch:
    """Wall-clock seconds by phase.

    GPU kernels run asynchronously, so their time counts in the phase that waits for their result.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The seconds since the last call."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


class Log:
    """Writes the metrics of a run, on the first rank.

    Args:
        folder: the run's; lines of `metrics.jsonl` after `step` are dropped, as they will be
            written again.
        step: the number of steps already made.
        settings: as JSON, for Weights & Biases.
        wandb: a project's name, or None.

    Raises:
        UserError: the folder cannot be written to, or wandb is asked for and not installed.
    """

    def __init__(self, folder: Folder, step: int, settings: dict[str, Any], wandb: str | None):
        kept = []
        if folder.exists(METRICS):
            lines = folder.read(METRICS).decode().splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= step]
        folder.write(METRICS, "".join(kept).encode())
        self._path = folder.path(METRICS)
        self._wandb = _wandb_run(wandb, settings) if wandb else None
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self._board = SummaryWriter(folder.path("tensorboard"), purge_step=step + 1)

    def write(self, step: int, figures: dict[str, float], last: int) -> None:
        """Reports the figures of one step.

        Args:
            step: counted from 1.
            figures: metrics by name; `images/s` and `seconds_left` are among them.
            last: the number of steps of the whole run.

        Raises:
            UserError: `metrics.jsonl` cannot be written.
        """
        try:
            with open(self._path, "a") as file:
                file.write(json.dumps({"step": step, **figures}) + "\n")
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
        except OSError as error:
            raise UserError(f"cannot write to {self._path}: {error.strerror or error}") from error
        if self._wandb is not None:
            self._wandb.log(figures, step=step)
        print(progress_line(step, figures, last), flush=True)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def progress_line(step: int, figures: dict[str, float], last: int) -> str:
    """A line for the terminal: loss and terms, temperatures, gradient norm, speed and time left."""
    terms = [f"{n} {figures['loss_' + n]:.4f}" for n in ("tag", "text") if "loss_" + n in figures]
    temperatures = [f"{n} {figures['T_' + n]:.4f}" for n in ("tag", "text") if "T_" + n in figures]
    left = timedelta(seconds=round(figures["seconds_left"]))
    return (
        f"step {step:,}/{last:,}  loss {figures['loss']:.4f} ({', '.join(terms)})  "
        f"T {', '.join(temperatures)}  gradient {figures['gradient_norm']:.3g}  "
        f"{figures['images/s']:,.1f} images/s ({figures['waiting']:.0%} waiting for images)  "
        f"{left} left"
    )


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # the last line of a run that was killed while writing it


def _wandb_run(project: str, settings: dict[str, Any]):
    try:
        import wandb
    except ImportError as error:
        raise UserError("--wandb needs Weights & Biases: pip install wandb") from error
    return wandb.init(project=project, config=settings, name=settings["name"], resume="allow")
