"""Arrays kept beside a label file, built once and memory-mapped by every process that reads it.

The file is in the safetensors layout (8 bytes of header length, a JSON header, the arrays), which
says all there is to say and lets other programs look inside. Pages of a mapped file belong to the page
cache: eight ranks on one machine share a single copy, and none of it is private memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from parsing.errors import UserError

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape), largest items first

_CODES = {"uint64": "U64", "int64": "I64", "int32": "I32", "uint8": "U8"}
_DTYPES = {code: np.dtype(name) for name, code in _CODES.items()}
_ALIGNMENT = 64


def cached_arrays(
    source: Path,
    suffix: str,
    identity: str,
    build: Callable[[], tuple[Shapes, Callable[[Arrays], None]]],
) -> Arrays:
    """Maps `source` + `suffix`, building it first where it is missing or belongs to another file.

    Where the folder is read-only, `$XDG_CACHE_HOME/tagalign` (`~/.cache/tagalign`) takes its place.
    Processes that open the same file at once wait for the first of them.

    Args:
        source: the file the arrays are made from.
        suffix: what to append to its name.
        identity: tells this version of `source` from every other.
        build: called only if needed; gives the shapes, and a function that fills the arrays.

    Returns:
        Arrays by name. Their pages are mapped copy-on-write: nothing written to them is kept.

    Raises:
        UserError: neither folder can be written to, or there is no room.
    """
    beside = source.with_name(source.name + suffix)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tagalign"
    places = [beside, cache / f"{identity}{suffix}"]
    for path in places:
        found = _open(path, identity)
        if found is not None:
            return found
    for path in places:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.parent):
                found = _open(path, identity)  # another process may have built it meanwhile
                if found is None:
                    _write(path, identity, *build())
                    found = _open(path, identity)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and path is not places[-1]:
                continue
            reason = error.strerror or str(error)
            raise UserError(
                f"cannot write {path}, which readers of {source} need: {reason}"
            ) from error
        if found is not None:
            return found
    raise UserError(f"cannot read back {places[0]}, which was just written")


def _open(path: Path, identity: str) -> Arrays | None:
    """None unless the file is there, whole, and made from the source of this identity."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            size = os.fstat(file.fileno()).st_size
        start = 8 + length
        if header.pop("__metadata__", {}).get("source") != identity:
            return None
        if size != start + max(entry["data_offsets"][1] for entry in header.values()):
            return None
        # Copy-on-write and not read-only: torch warns of every tensor over read-only memory.
        mapped = np.asarray(np.memmap(path, dtype=np.uint8, mode="c"))
        arrays = {}
        for name, entry in header.items():
            begin, end = (start + offset for offset in entry["data_offsets"])
            arrays[name] = mapped[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return arrays
    except (OSError, ValueError, KeyError, MemoryError):
        return None


def _write(path: Path, identity: str, shapes: Shapes, fill: Callable[[Arrays], None]) -> None:
    header: dict[str, object] = {"__metadata__": {"source": identity}}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        end = offset + np.dtype(dtype).itemsize * math.prod(shape)
        header[name] = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    start = 8 + len(text)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "w+b") as file:
            # Claims the room now: a disk that fills up under a mapping ends the process by signal.
            os.posix_fallocate(file.fileno(), 0, start + offset)
            file.write(len(text).to_bytes(8, "little") + text)
            file.flush()
            mapped = np.memmap(file, dtype=np.uint8, mode="r+")
            arrays = {}
            for name, (dtype, shape) in shapes.items():
                begin, end = (start + at for at in header[name]["data_offsets"])
                arrays[name] = np.asarray(mapped[begin:end]).view(dtype).reshape(shape)
            fill(arrays)
            mapped.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)


@contextlib.contextmanager
def _locked(folder: Path):
    """One builder at a time; the lock is the folder's own, so that no lock file is left behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network disks have no locks: then each builds
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
