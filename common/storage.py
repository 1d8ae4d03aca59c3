"""A folder on a local disk or on any fsspec file system, written one whole file at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError

T = TypeVar("T")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PAUSES = (0.5, 2.0, 8.0)  # seconds between attempts on a remote file system
_NOT_OFFERED = (errno.EINVAL, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)  # by some mounted stores


class Folder:
    """Files appear under their name complete or not at all.

    On a local disk a file is written aside, flushed to the disk and renamed. Object stores
    show a new object only once its upload is complete, so there one put does the same.

    Args:
        url: a local path, or anything `fsspec.core.url_to_fs` takes (`s3://bucket/tags`).
    """

    def __init__(self, url: str | os.PathLike[str]):
        self.url = str(url)
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise UserError(f"cannot open the folder {self.url}: {error}") from error
        self.is_local = "file" in (
            self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,)
        )

    def path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def sub(self, name: str) -> Folder:
        return Folder(f"{self.url.rstrip('/')}/{name}")

    def exists(self, name: str) -> bool:
        return self.fs.exists(self.path(name))

    def names(self, suffix: str = "") -> list[str]:
        """Sorted names of what is directly inside; empty where the folder does not exist."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.root, detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)
        return sorted(n for n in names if n.endswith(suffix) and not n.startswith("."))

    def read(self, name: str) -> bytes:
        """A file's bytes; from a remote file system all of them, in a few attempts.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        path = self.path(name)
        return self.fs.cat_file(path) if self.is_local else self._patiently(lambda: self._get(path))

    def _get(self, path: str) -> bytes:
        data = self.fs.cat_file(path)
        self._check_size(path, data)
        return data

    def _check_size(self, path: str, data: bytes) -> None:
        self.fs.invalidate_cache()
        size = self.fs.info(path).get("size")
        if size is not None and size != len(data):
            raise OSError(errno.EIO, f"{path}: {len(data)} of {size} bytes arrived")

    def _patiently(self, act: Callable[[], T]) -> T:
        """Tries again where a remote file system fails for a moment."""
        for pause in _PAUSES:
            try:
                return act()
            except (FileNotFoundError, PermissionError):
                raise
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise
            time.sleep(pause)
        return act()

    def read_json(self, name: str) -> Any:
        """Raises `UserError` where the file is no JSON."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise UserError(f"{self.url}/{name} is damaged: {error}") from error

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        return pq.read_table(pa.BufferReader(self.read(name)), columns=columns)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    def remove_all(self, suffix: str) -> None:
        """Removes the files directly inside that end so."""
        for name in self.names(suffix):
            self.remove(name)

    def remove_leftovers(self) -> None:
        """Removes what killed writers left aside; only for the process that holds the lock."""
        if self.is_local:
            for path in Path(self.root).glob(".*.*.[0-9]*"):
                path.unlink(missing_ok=True)

    def make(self) -> None:
        """Creates the folder.

        Raises:
            UserError: it cannot be created or written to.
        """
        with self.write_errors():
            self.fs.makedirs(self.root, exist_ok=True)

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Writes a file whole; an earlier file of that name stays until the new one is complete.

        Raises:
            UserError: no room, no permission, or a read-only file system.
        """
        if self.is_local:
            with self.aside(name) as path:
                path.write_bytes(data)
        else:
            with self.write_errors():
                self._patiently(lambda: self._put(self.path(name), bytes(data)))

    def _put(self, path: str, data: bytes) -> None:
        self.fs.pipe_file(path, data)
        self._check_size(path, data)

    @contextlib.contextmanager
    def aside(self, name: str) -> Iterator[Path]:
        """A path to write a file at, for a folder on a local disk.

        When the block ends the file is flushed to the disk and renamed to `name`. When the block
        raises, the file is deleted, and an earlier file called `name` is left as it was.

        Raises:
            UserError: no room, no permission, or a read-only file system, also within the block.
        """
        aside = Path(self.path(f".{name}.{os.getpid()}"))
        with self.write_errors():
            try:
                yield aside
                with open(aside, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(aside, self.path(name))
            except BaseException:
                with contextlib.suppress(OSError):
                    aside.unlink()
                raise
            self._sync()

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def write_table(self, name: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write(name, sink.getvalue())

    def lock(self, wait: bool = False) -> contextlib.AbstractContextManager[None]:
        """Holds the folder for this process, so that two drivers never write into one.

        The operating system lets go of the lock however the process ends. Where a file system
        offers no such lock, as object stores do not, this does nothing.

        Args:
            wait: until another process has let go of the lock, instead of raising.

        Raises:
            UserError: another process holds it, and `wait` is false.
        """
        return self._flock(wait) if self.is_local else contextlib.nullcontext()

    @contextlib.contextmanager
    def _flock(self, wait: bool):
        with self.write_errors():
            file = open(self.path(".lock"), "w")  # noqa: SIM115 - open for as long as the lock
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise UserError(f"another run is writing to {self.url} right now") from error
            except OSError as error:
                if error.errno not in _NOT_OFFERED:
                    raise
            yield

    def _sync(self) -> None:
        """Flushes the folder to the disk, so that the renaming survives a crash."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def write_errors(self) -> Iterator[None]:
        """Raises an `OSError` of the block as a `UserError` of one sentence about this folder."""
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM:
                sentence = f"no room left in {self.url}: free some space and run the same command"
            else:
                sentence = f"cannot write to {self.url}: {error.strerror or error}"
            raise UserError(sentence) from error


def inside_ray_copy(url: str) -> bool:
    """Whether a local path lies in the copy of the working directory that Ray makes for a job.

    Ray deletes that copy when the job's resources are collected, and with it all that was
    written there.
    """
    if "://" in url:
        return False
    return "runtime_resources" in Path(url).absolute().parts
