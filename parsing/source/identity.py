"""What tells one input from another: names, sizes, and a hash of the contents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import xxhash

from parsing.source.files import HF_PREFIX

WHOLE = 4 << 20  # bytes of a file that is hashed whole
_SAMPLES, _SAMPLE = 16, 1 << 16  # pieces of a larger file that are hashed, and bytes of each
_TAGS = ("ETag", "etag", "md5Hash", "content_md5")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
_ENDINGS = (".parquet", ".pq", ".arrow", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".tar", ".gz")


def file_identity(path: str) -> list[str | int | None]:
    """Name, size and content of a file.

    A file of more than `WHOLE` bytes is hashed in pieces spread over it. What changes between two of
    them changes the file's time, which then is a part of the identity. Of an object store the tag of
    the object stands for its content, since reading pieces of a thousand objects takes minutes.

    Returns:
        [name without folders, bytes, hash in hex, tag or time]; None for what is not known or needed.
    """
    fs, root = fsspec.core.url_to_fs(path)
    info = fs.info(root)
    name, size = path.rpartition("/")[2], info.get("size")
    if (tag := _first(info, _TAGS)) is not None:
        return [name, size, None, tag]
    content = xxhash.xxh3_128()
    try:
        with fs.open(root, "rb") as file:
            if size is None or size <= WHOLE:
                while block := file.read(1 << 20):
                    content.update(block)
                return [name, size, content.hexdigest(), None]
            for start in _starts(size):
                file.seek(start)
                content.update(file.read(_SAMPLE))
    except (ValueError, NotImplementedError):  # a server that sends files only from their start
        return [name, size, None, _first(info, _TIMES)]
    return [name, size, content.hexdigest(), _first(info, _TIMES)]


def data_set_identity(path: str) -> list[str | int | None]:
    """The same of `hf:NAME[:CONFIG]`: of a local folder by its files, else the hub's commit.

    Images and other files of a local folder count by their names and sizes.
    """
    name, colon, config = path.removeprefix(HF_PREFIX).partition(":")
    folder = Path(name)
    if not folder.is_dir():
        return [f"{HF_PREFIX}{name}{colon}{config}", None, _commit(name), None]
    folder = folder.resolve()
    content, total = xxhash.xxh3_128(), 0
    for file in sorted(_visible(folder)):
        size = file.stat().st_size
        total += size
        parts = [size, None] if not file.name.endswith(_ENDINGS) else file_identity(str(file))[1:]
        content.update(f"{file.relative_to(folder)} {parts}\n".encode())
    return [f"{HF_PREFIX}{folder.name}{colon}{config}", total, content.hexdigest(), None]


def _visible(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        hidden = any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden:
            yield file


def _starts(size: int) -> list[int]:
    """Where the pieces of a file begin: the first at its start, the last at its end."""
    step = (size - _SAMPLE) / (_SAMPLES - 1)
    return [round(n * step) for n in range(_SAMPLES)]


def _first(info: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((str(info[name]) for name in names if info.get(name)), None)


def _commit(name: str) -> str | None:
    """The commit of a data set on the hub; None where the hub cannot be asked."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name, timeout=30).sha
    except Exception:  # the hub client raises dozens of types; reading the data will tell
        return None
