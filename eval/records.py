"""What was counted in each image, kept as it is counted: a run that was cut off goes on from there."""

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
    """The images of one benchmark that one run has counted, in a local folder.

    Every rank appends to a file of its own, `images-RANK.jsonl`, a line for each image.

    Args:
        folder: where.
        settings: all that the counts depend on, as JSON has it.
        classes: C.
        rank: this process's.

    Raises:
        UserError: the folder holds counts of other settings, or cannot be written to.
    """

    def __init__(self, folder: Folder, settings: dict[str, Any], classes: int, rank: int = 0):
        self.folder, self.classes = folder, classes
        folder.make()
        if not folder.is_local:
            raise UserError(f"results are counted into a local folder, not into {folder.url}")
        if folder.exists(SETTINGS):
            self._compare(settings)
        elif rank == 0:
            folder.write_json(SETTINGS, settings)
        self._path = Path(folder.path(f"images-{rank}.jsonl"))

    def read(self) -> dict[str, list[list[int]]]:
        """Sparse counts of the images that all ranks have counted so far.

        A line that a kill or a full disk cut off is as if it had never been begun.
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
        """The sum of what `read` gives, int64 of shape (C, C)."""
        total = np.zeros((self.classes, self.classes), np.int64)
        for counts in counted.values():
            total += from_sparse(counts, self.classes)
        return total

    def add(self, records: Sequence[tuple[str, np.ndarray]]) -> None:
        """Appends images and their counts.

        Raises:
            UserError: there is no room, or no permission.
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
                "give --overwrite to lose them, or another --out"
            )


def resume(
    folder: Folder, settings: dict[str, Any], classes: int, keys: Sequence[str], overwrite: bool
) -> tuple[Records, np.ndarray, set[str]]:
    """Where to write counts, and what was counted before; the same on every rank but for the sum.

    Args:
        folder, settings, classes: see `Records`.
        keys: the images that are asked for; others that were counted are left out.
        overwrite: lose what was counted before.

    Returns:
        this rank's records; the sum of the images counted before, which only the first rank has;
        and which images these are.

    Raises:
        UserError: see `Records`; on every rank.
    """
    total = np.zeros((classes, classes), np.int64)
    problem, done = None, set()
    if rank() == 0:  # the others must not see what this one begins to write
        try:
            if overwrite:
                forget(folder)
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


def forget(folder: Folder) -> None:
    """Loses all that was counted in a folder."""
    for name in (*folder.names(".jsonl"), SETTINGS):
        folder.remove(name)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
