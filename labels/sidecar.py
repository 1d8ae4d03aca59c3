"""Arrays kept beside a label file, built once and memory-mapped by every process that reads the file.

A sidecar is a folder with one `.npy` file per array and a `source.json`, which is written last and says
which version of the label file the arrays belong to. Pages of a mapped file belong to the page cache:
eight ranks on one machine share a single copy, and none of it is private memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from common.errors import UserError
from common.storage import Folder

Arrays = dict[str, np.ndarray]
Specs = dict[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape)

SOURCE = "source.json"
_NO_ACCESS = (errno.EACCES, errno.EROFS, errno.EPERM)


def cached_arrays(
    source: Path,
    suffix: str,
    identity: str,
    build: Callable[[], tuple[Specs, Callable[[Arrays], None]]],
) -> Arrays:
    """Maps the sidecar `source` + `suffix`, and builds it first if there is no valid one.

    A sidecar that is damaged, unfinished, made by another program, or made from another version of
    `source` is replaced. In a read-only folder `$XDG_CACHE_HOME/tagalign` (`~/.cache/tagalign`) is
    used instead. Processes that open the same file at once wait for the first one to build it.

    Args:
        source: the file the arrays are made from.
        suffix: what to append to its name.
        identity: different for every version of `source`.
        build: called only if needed; returns dtypes and shapes, and a function that fills the arrays.

    Returns:
        Arrays by name, mapped copy-on-write: what is written to them is not kept.

    Raises:
        UserError: neither folder can be written to, or there is no room.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tagalign"
    places = [source.with_name(source.name + suffix), cache / f"{identity}{suffix}"]
    for place in places:
        arrays = _map(Folder(place), identity)
        if arrays is not None:
            return arrays
    for place in places:
        folder = Folder(place)
        try:
            _remove_file(place)
            folder.make()
            with folder.lock(wait=True):
                arrays = _map(folder, identity)  # another process may have built it meanwhile
                if arrays is None:
                    _build(folder, identity, *build())
                    arrays = _map(folder, identity)
        except UserError as error:
            denied = isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_ACCESS
            if denied and place is not places[-1]:
                continue
            raise
        if arrays is not None:
            return arrays
    raise UserError(f"cannot read back {places[0]}, which was just written")


def _map(folder: Folder, identity: str) -> Arrays | None:
    """The arrays of a sidecar; None unless all of them are there and belong to this source."""
    try:
        about = folder.read_json(SOURCE)
        if about["source"] != identity:
            return None
        arrays = {}
        for name, (dtype, shape) in about["arrays"].items():
            # Copy-on-write and not read-only: torch warns of every tensor over read-only memory.
            mapped = open_memmap(folder.path(f"{name}.npy"), mode="c")
            if mapped.dtype != dtype or mapped.shape != tuple(shape):
                return None
            arrays[name] = np.asarray(mapped)
        # Another process may have replaced arrays meanwhile; it removes this file first.
        return arrays if folder.read_json(SOURCE) == about else None
    except Exception:  # a damaged file can make numpy's and json's parsers raise anything
        return None


def _build(folder: Folder, identity: str, specs: Specs, fill: Callable[[Arrays], None]) -> None:
    folder.remove_leftovers()
    with folder.write_errors():
        folder.remove(SOURCE)
    with contextlib.ExitStack() as stack:
        arrays = {}
        for name, (dtype, shape) in specs.items():
            path = stack.enter_context(folder.aside(f"{name}.npy"))
            mapped = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            # Reserve the room now: a disk that fills up under a mapping kills the process.
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            arrays[name] = np.asarray(mapped)
        fill(arrays)
    folder.write_json(SOURCE, {"source": identity, "arrays": specs})


def _remove_file(path: Path) -> None:
    """Removes a file that is in the place of the sidecar's folder."""
    with (
        Folder(path.parent).write_errors(),
        contextlib.suppress(FileNotFoundError, IsADirectoryError),
    ):
        if not path.is_dir():
            path.unlink()
