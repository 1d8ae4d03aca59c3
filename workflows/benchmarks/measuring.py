"""What the benchmarks share: taking turns, memory, drawn photographs, tags by Zipf's law, tables."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

MIB = 1 << 20


def take_turns(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each side; in every round each runs once, so that a busy moment hits all.

    Args:
        sides: what to run, by name. Each runs once before, to warm up.
        rounds: how often each is measured; the order is turned round every time.
        clock: seconds: `time.perf_counter`, or `time.process_time` for this process alone.
    """
    for side in sides.values():
        side()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 else reversed(sides):
            began = clock()
            sides[name]()
            taken[name].append(clock() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def resident(field: str) -> int:
    """Bytes of this process's memory, by a field of Linux's /proc/self/status: VmRSS, VmHWM, RssAnon.

    Raises:
        RuntimeError: this system does not tell.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {field}")


def photo(seed: int, size: tuple[int, int]) -> bytes:
    """A JPEG with detail at every scale, as photographs have it.

    Args:
        seed: of the picture.
        size: width and height, pixels.
    """
    rng = np.random.default_rng(seed)
    image = np.zeros((size[1], size[0], 3))
    for scale in (2, 8, 32, 128):
        noise = rng.normal(0, 12 * scale**0.5, (size[1] // scale + 2, size[0] // scale + 2, 3))
        coarse = Image.fromarray(np.clip(noise + 128, 0, 255).astype(np.uint8))
        image += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) - 128.0
    sink = io.BytesIO()
    Image.fromarray(np.clip(image + 128, 0, 255).astype(np.uint8)).save(sink, "JPEG", quality=87)
    return sink.getvalue()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows with their columns below each other; the first column is left-aligned, figures are not."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
