"""Sees to it that an engine's processes end with the process that started them, however that ends.

vLLM's engine runs in processes of its own, which wait for prompts for ever when the process that fed
them is killed, and hold the GPU's memory meanwhile. A guard is a small process beside them: it
remembers the descendants of its parent, and kills them once the parent is gone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import psutil

_PARENT_SECONDS = 0.25  # between two looks whether the parent lives
_FIRST_SECONDS, _LONGEST_SECONDS = 0.25, 5.0  # between two looks for new descendants


class Guard:
    """Watches over all descendants of this process, also those that are started later."""

    def __init__(self) -> None:
        # A session of its own: what kills the parent's process group must not kill the guard.
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Ends the watch; descendants that still run are left alone."""
        self._process.kill()
        self._process.wait()


def watch(parent: int) -> None:
    """Returns once the process `parent`, which started this one, and its descendants are gone."""
    known: set[psutil.Process] = set()
    pause, looked = _FIRST_SECONDS, 0.0
    while os.getppid() == parent:
        if time.monotonic() - looked >= pause:
            looked, pause = time.monotonic(), min(1.1 * pause, _LONGEST_SECONDS)
            known = {each for each in known | _descendants(parent) if each.is_running()}
        time.sleep(_PARENT_SECONDS)
    while known := {each for each in known if each.is_running()}:
        # Children first: what a process has started cannot be found once it is gone.
        for each in set().union(known, *(_descendants(process.pid) for process in known)):
            known.add(each)
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(list(known), timeout=1)


def _descendants(pid: int) -> set[psutil.Process]:
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return set()
    return {process for process in found if process.pid != os.getpid()}


if __name__ == "__main__":
    watch(int(sys.argv[1]))
