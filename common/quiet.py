"""Keeping what libraries print off the user's terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def without_warnings(library: str = "huggingface_hub") -> Iterator[None]:
    """Keeps a library's warnings back, such as one for each of the hub's retries."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def output_in_file(name: str) -> Iterator[str]:
    """Sends what this process and those it starts print into a file; gives the file's path.

    Processes started meanwhile keep writing there. The file is the caller's to delete.

    Args:
        name: what the file is called, a random ending aside.
    """
    descriptor, path = tempfile.mkstemp(prefix=f"tagalign-{name}-", suffix=".log")
    kept = [os.dup(1), os.dup(2)]
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        yield path
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for each in (descriptor, *kept):
            os.close(each)
