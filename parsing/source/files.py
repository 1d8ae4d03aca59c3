"""Input files: found by path, glob, folder or URL, told apart by their names, and opened."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import fsspec
import pyarrow as pa

from common.errors import UserError, reason

HF_PREFIX = "hf:"
FORMATS = {
    "tsv": (".tsv", ".txt"),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson"),
    "webdataset": (".tar",),
}
_CODECS = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".bz2": "bz2",
    ".xz": "xz",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".lz4": "lz4",
}
COMPRESSED = tuple(_CODECS)
_SHORT = {".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".txz": ".tar.xz", ".tzst": ".tar.zst"}
_BY_ARROW = ("zstd", "lz4")  # fsspec would need another package for these
# Files that stand beside captions and hold none.
_PAPER = re.compile(
    r"(?:readme|licen[sc]e|notice|changelog|checksums|citation)(?![^\W_]|-\d)", re.I
)


def find_files(path: str, format: str | None = None) -> list[str]:
    """The files that a local path, a glob, a folder or an fsspec URL stands for, sorted.

    A folder gives the files directly inside whose names tell a format; `.txt` is no such name,
    because a read-me beside the captions has it too.

    Args:
        format: one of `FORMATS`; None goes by the files' names.

    Raises:
        UserError: nothing there, no access, a file whose name tells no format, or a folder that
            holds more than one format.
    """
    if not path:
        raise UserError("an input's name is empty: see --captions")
    try:
        fs, root = fsspec.core.url_to_fs(path)
        has_magic = any(c in root for c in "*?[") and not fs.exists(root)
        if has_magic:
            found = _only_files(fs.glob(root, detail=True).values())
            if not _name(root).startswith("."):  # as in a shell
                found = [name for name in found if not _name(name).startswith(".")]
            found = [name for name in found if not is_paper(name)] or found
        elif fs.isdir(root):
            found = _captions_in(_only_files(fs.ls(root, detail=True)), path, format)
        elif fs.exists(root):
            found = [root]
        else:
            found = []
    except UserError:
        raise
    except Exception as error:  # each file system and its network raise their own
        raise UserError(f"cannot reach {path}: {reason(error)}") from error
    if not found:
        if os.path.islink(path):
            raise UserError(
                f"{path} is a link to nothing ({os.readlink(path)}): fetch the file itself"
            )
        what = "no file matches" if has_magic else "there are no captions at"
        raise UserError(f"{what} {path}")
    for name in found:
        if format is None and _plain_name(name).endswith(".csv"):
            raise UserError(f"{name} is a CSV, which is not read: convert it to TSV or Parquet")
        if format is None and format_of(name) is None:
            raise UserError(
                f"cannot tell the format of {name} from its name: give --format "
                f"({', '.join(FORMATS)})"
            )
    if "://" not in path:
        return found
    # A chain such as `tar://x.tsv::s3://bucket/y.tar` names one file and cannot be put together again.
    return [path] if found == [root] else [fs.unstrip_protocol(name) for name in found]


def format_of(path: str) -> str | None:
    """The format that a file's name tells, of `FORMATS`; None where it tells none."""
    name = _plain_name(path)
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    name += next((long[:4] for short, long in _SHORT.items() if name.endswith(short)), "")
    return next((format for format, endings in FORMATS.items() if name.endswith(endings)), None)


def file_size(path: str) -> int | None:
    """Bytes of a file, None where its file system does not tell."""
    fs, root = fsspec.core.url_to_fs(path)
    return fs.info(root).get("size")


def is_compressed(path: str) -> bool:
    """Whether `opened` unpacks it."""
    return _codec(path) is not None


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Opens a file for reading, unpacked where its name ends in one of `COMPRESSED`."""
    codec = _codec(path)
    by_arrow = codec in _BY_ARROW
    with fsspec.open(path, "rb", compression=None if by_arrow else codec) as file:
        yield io.BufferedReader(pa.CompressedInputStream(file, codec)) if by_arrow else file


def _codec(path: str) -> str | None:
    ending = "." + _plain_name(path).rpartition(".")[2]
    return _CODECS.get("." + _SHORT.get(ending, ending).rpartition(".")[2])


def _only_files(infos) -> list[str]:
    return sorted(str(info["name"]) for info in infos if info["type"] != "directory")


def _captions_in(names: list[str], path: str, format: str | None) -> list[str]:
    visible = [name for name in names if not _name(name).startswith((".", "_"))]
    visible = [name for name in visible if not is_paper(name)]
    if format is not None:
        named = [name for name in visible if format_of(name) == format]
        return named or [name for name in visible if "." not in _name(name)]
    visible = [name for name in visible if format_of(name) and not _is_text(name)]
    formats = sorted({format_of(name) for name in visible})
    if len(formats) > 1:
        raise UserError(f"{path} holds {' and '.join(formats)} files: choose one with --format")
    return visible


def is_paper(name: str) -> bool:
    """Read-me files and what an unpacked archive of macOS holds beside its files."""
    return _PAPER.match(_name(name)) is not None or "__MACOSX" in name.split("/")


def _is_text(name: str) -> bool:
    return any(_plain_name(name).endswith((".txt", f".txt{ending}")) for ending in COMPRESSED)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _plain_name(path: str) -> str:
    """In lower case, and without what follows the `?` of a URL."""
    return (path.split("?")[0] if "://" in path else path).lower()
