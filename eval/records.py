"""Counts of each image, written to disk as they are made, so that a killed run can be resumed.

Shapes: C classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.storage import Folder
from eval.confusion import from_sparse, to_sparse
from training.distributed import from_all_ranks, rank

SETTINGS = "settings.json"


class Records:
    """The counts of one run on one benchmark, in a local folder.

    Each rank appends to its own file, `images-RANK.jsonl`, one line per image.

    Args:
        folder: a local folder, shared by all ranks.
        settings: everything that the counts depend on, JSON-serialisable.
        classes: C.
        rank: of this process.

    Raises:
        UserError: the folder holds counts of other settings, or is not writable.
    """

    def __init__(self, folder: Folder, settings: dict[str, Any], classes: int, rank: int = 0):
        self.folder, self.classes = folder, classes
        folder.make()
        if not folder.is_local:
            raise UserError(f"--out must be a local folder, not {folder.url}")
        if folder.exists(SETTINGS):
            self._compare(settings)
        elif rank == 0:
            folder.write_json(SETTINGS, settings)
        self._path = Path(folder.path(f"images-{rank}.jsonl"))

    def read(self) -> dict[str, list[list[int]]]:
        """Sparse counts by image, of all ranks.

        An incomplete last line, left by a kill or a full disk, is removed from its file.
        """
        found = {}
        for name in self.folder.names(".jsonl"):
            path = Path(self.folder.path(name))
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with open(path, "r+b") as file:
                    file.truncate(whole)
            for line in content[:whole].splitlines():
                record = json.loads(line)
                found[record["image"]] = record["counts"]
        return found

    def total(self, counted: dict[str, list[list[int]]]) -> np.ndarray:
        """The sum of the counts that `read` returns, int64 of shape (C, C)."""
        total = np.zeros((self.classes, self.classes), np.int64)  # (C, C)
        for counts in counted.values():
            total += from_sparse(counts, self.classes)
        return total

    def add(self, records: Sequence[tuple[str, np.ndarray]]) -> None:
        """Appends images and their counts, each int64 of shape (C, C).

        Raises:
            UserError: the disk is full, or the file is not writable.
        """
        lines = "".join(
            json.dumps({"image": key, "counts": to_sparse(counts)}) + "\n"
            for key, counts in records
        )
        try:
            with open(self._path, "a") as file:
                file.write(lines)
        except OSError as error:
            raise UserError(f"cannot write to {self._path}: {error.strerror}") from error

    def _compare(self, settings: dict[str, Any]) -> None:
        try:
            before = self.folder.read_json(SETTINGS)
        except ValueError as error:
            raise UserError(f"{self.folder.path(SETTINGS)} is damaged: {error}") from error
        now = json.loads(json.dumps(settings))
        different = sorted(
            key for key in before.keys() | now.keys() if before.get(key) != now.get(key)
        )
        if different:
            key = different[0]
            was, is_now = _short(before.get(key)), _short(now.get(key))
            raise UserError(
                f"{self.folder.url} holds results with another {key} ({was}, now {is_now}): "
                "discard them with --overwrite, or give another --out"
            )


def resume(
    folder: Folder, settings: dict[str, Any], classes: int, keys: Sequence[str], overwrite: bool
) -> tuple[Records, np.ndarray, set[str]]:
    """Opens the records of this rank, and sums up what earlier runs have counted.

    Args:
        folder, settings, classes: see `Records`.
        keys: the images to score; earlier counts of other images are not summed.
        overwrite: discard earlier counts.

    Returns:
        this rank's records; the sum of earlier counts, int64 of shape (C, C), which is 0 on all ranks
        but the first; and the images that were counted earlier.

    Raises:
        UserError: see `Records`. It is raised on every rank.
    """
    total = np.zeros((classes, classes), np.int64)  # (C, C)
    problem, done = None, set()
    if rank() == 0:  # alone, so that all ranks agree on what earlier runs have counted
        try:
            if overwrite:
                discard(folder)
            records = Records(folder, settings, classes)
            counted = records.read()
            done = set(counted) & set(keys)
            total = records.total({key: counted[key] for key in done})
        except UserError as error:
            problem = str(error)
    problem, done = from_all_ranks((problem, done))[0]
    if problem is not None:
        raise UserError(problem)
    return Records(folder, settings, classes, rank()), total, done


def discard(folder: Folder) -> None:
    """Deletes the counts in a folder."""
    for name in (*folder.names(".jsonl"), SETTINGS):
        folder.remove(name)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
