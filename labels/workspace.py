"""The folder in which a build works; at the end its files get their final names together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import UserError, reason
from common.storage import Folder

PREFIX = ".build_vocab-"


class Workspace:
    """A hidden folder beside the final files, or in the system's temporary folder for remote files.

    It is locked while its process lives. Folders of dead processes are deleted by the next process that
    works in the same place.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._folder: Folder | None = None
        self._renaming = False

    @contextlib.contextmanager
    def open(self, folder: str) -> Iterator[Path]:
        """Makes the folder, and deletes it with its content when the block ends.

        Args:
            folder: of the final files; a local path or a URL of fsspec.

        Raises:
            UserError: no room or no permission; also for such errors within the block.
        """
        self._folder = Folder(folder)
        self._folder.make()
        place = self._folder.root if self._folder.is_local else tempfile.gettempdir()
        with self._folder.write_errors():
            _remove_leftovers(Path(place))
            lock = self._make_locked(Path(place))
        with _sentences_about(place, self._folder.url):
            try:
                yield self._path
            finally:
                shutil.rmtree(self._path, ignore_errors=True)
                self._path = None
                os.close(lock)

    def _make_locked(self, place: Path) -> int:
        """Makes a new folder; returns the descriptor that locks it."""
        while True:
            # Known before it exists, since `abandon` may be called in between.
            self._path = place / f"{PREFIX}{uuid.uuid4().hex[:12]}"
            self._path.mkdir(0o700)
            descriptor = os.open(self._path, os.O_RDONLY)
            locked = _lock(descriptor)
            # Another process may have taken it for a leftover before it was locked.
            if locked is None or (locked and self._path.exists()):
                return descriptor
            os.close(descriptor)

    def abandon(self) -> bool:
        """Deletes the folder at once, for a process that is about to end.

        Returns:
            False while files are being renamed: the process should then finish that first.
        """
        if self._renaming:
            return False
        for _ in range(10):  # threads may write on while it is deleted
            if self._path is not None and self._path.exists():
                shutil.rmtree(self._path, ignore_errors=True)
        return True

    def publish(self, sets: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        """Gives finished files their final names; on a local disk all of them or none.

        Args:
            sets: (label file, its vocabulary, other files) by name; an earlier file is deleted where the
                workspace has no new one of that name.

        Raises:
            UserError: a file cannot be renamed or uploaded. Earlier files are as they were; on a remote
                store the sets before this one are new.
        """
        with self._folder.write_errors():
            if self._folder.is_local:
                self._renaming = True
                try:
                    self._rename(sets)
                finally:
                    self._renaming = False
            else:
                self._upload(sets)

    def _rename(self, sets: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        root = Path(self._folder.root)
        replaced: list[tuple[Path, Path]] = []
        try:
            for labels, vocabulary, others in sets:
                names = (labels, vocabulary, *others)
                for name in names:
                    replaced.append((root / name, self._path / f"earlier.{name}"))
                    _keep(*replaced[-1])
                # A label file can be read without a vocabulary beside it, but not with another one's.
                # So the old vocabulary goes first: a kill at any moment leaves a file that can be read.
                (root / vocabulary).unlink(missing_ok=True)
                for name in names:
                    if (self._path / name).exists():
                        os.replace(self._path / name, root / name)
                    else:
                        (root / name).unlink(missing_ok=True)
            _flush(root)
        except BaseException:
            for final, earlier in reversed(replaced):
                with contextlib.suppress(OSError):
                    if earlier.exists():
                        os.replace(earlier, final)
                    elif not final.is_dir():
                        final.unlink(missing_ok=True)
            raise

    def _upload(self, sets: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        folder = self._folder
        try:
            for labels, vocabulary, others in sets:
                folder.remove(vocabulary)
                for name in (labels, vocabulary, *others):
                    if (self._path / name).exists():
                        folder.fs.put_file(str(self._path / name), folder.path(name))
                    else:
                        folder.remove(name)
        except OSError:
            raise
        except Exception as error:  # each store's client raises its own types
            raise UserError(f"cannot write to {folder.url}: {reason(error)}") from error


def split(out: str) -> tuple[str, str]:
    """The folder and the name of a file; a local path or a URL."""
    protocol, mark, path = out.rpartition("://")
    folder, slash, name = path.rpartition("/")
    if mark:
        return f"{protocol}{mark}{folder}", name
    return (folder or slash) or ".", name


def join(folder: str, name: str) -> str:
    """The inverse of `split`."""
    return name if folder == "." else f"{folder}{'' if folder.endswith('/') else '/'}{name}"


def _keep(final: Path, earlier: Path) -> None:
    """Gives a file a second name, so that it can come back."""
    if final.is_dir():
        raise IsADirectoryError(21, f"{final} is a folder")
    if not final.exists():
        return
    try:
        os.link(final, earlier)
    except OSError:  # a file system without such links
        os.rename(final, earlier)


def _remove_leftovers(place: Path) -> None:
    for path in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _lock(descriptor):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether the lock was free; None where the file system offers none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _flush(folder: Path) -> None:
    """Flushes the folder to the disk, so that the renaming survives a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _sentences_about(place: str, folder: str) -> Iterator[None]:
    """Replaces the hidden folder in error messages by the folder that the user named."""
    try:
        yield
    except UserError as error:
        text = str(error)
        hidden = re.escape(f"{place.rstrip('/')}/{PREFIX}")
        told = re.sub(rf"{hidden}[^\s:]*", lambda _: folder, text)
        if told == text:
            raise
        raise UserError(told) from error
