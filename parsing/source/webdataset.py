"""Webdataset tars: neighbours of one key are a sample, and one of their files holds the caption."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from parsing.source.files import is_compressed, is_paper
from parsing.source.values import Row, Wanted, decoded, foreign_encoding, key_text, rows_of_json

TEXTS = ("txt", "caption", "text", "cap")  # endings of captions, the first that is there counts
_OTHERS = frozenset(("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "npy", "cls"))


def read_webdataset(file: BinaryIO, path: str, wanted: Wanted) -> Iterator[Row]:
    """The rows of a tar, one for each caption.

    Of a sample's files, the one of an ending of `TEXTS` is the caption, else a `.json` holds it.
    `wanted.caption` names another ending, or a field of the `.json`; `wanted.key` a field of it.
    Files of a sample stand together, as the format demands. Its images may stand elsewhere: a tar
    packed without care for that has all its images first, or all its texts.

    Where the file can seek, images are passed over and not read.

    Raises:
        tarfile.ReadError: it is damaged or cut off, also at the border of two files.
    """
    mode = "r:" if _can_be_sought(file, path) else "r|*"
    with tarfile.open(fileobj=file, mode=mode, tarinfo=_Member) as tar:
        told: set[str] = set()
        silent: dict[str, set[str]] = {}
        for key, texts, endings in _samples(tar, wanted):
            if texts:
                told.add(key)
                yield from _from_sample(key, texts, endings, wanted)
            else:
                silent.setdefault(key, set()).update(endings)
        _check_end(tar)
        for key, endings in silent.items():
            if key not in told:
                yield Row(key, "", _no_text(endings))


def _can_be_sought(file: BinaryIO, path: str) -> bool:
    """Whether it is a plain tar on a file system that can seek.

    What unpacks as it reads says that it can seek as well, and reads all that it passes over.
    """
    if is_compressed(path) or not file.seekable():
        return False
    head = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    return head[257:262] == b"ustar"


def _no_text(endings: set[str]) -> str:
    others = sorted(ending for ending in endings if ending not in _OTHERS)
    problem = "no .txt and no .json beside the image"
    if not others:
        return problem
    return f"{problem}, but .{', .'.join(others)}: name one with --caption-column"


class _Member(tarfile.TarInfo):
    """Raises for a damaged header and for a missing end; tarfile takes both for the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:
            raise tarfile.ReadError(str(error)) from error
        except tarfile.EmptyHeaderError as error:
            raise tarfile.ReadError("the mark of its end is missing") from error


def _check_end(tar: tarfile.TarFile) -> None:
    """Reads what follows the first empty block: a hole in the middle of a file looks like its end."""
    while block := tar.fileobj.read(1 << 20):
        if block.strip(b"\0"):
            raise tarfile.ReadError("there is data after the mark of its end")


def _is_hidden(name: str) -> bool:
    """Files that are no part of a sample: `._x`, `__MACOSX/`, read-me files, names without an ending."""
    *folders, base = name.split("/")
    if base.startswith((".", "__")) or "." not in base or is_paper(name):
        return True
    return any(part.startswith(".") and part.strip(".") for part in folders)


def _samples(
    tar: tarfile.TarFile, wanted: Wanted
) -> Iterator[tuple[str, dict[str, bytes], set[str]]]:
    """Neighbours of one key, the name up to the first dot: their texts by ending, and all endings."""
    read = {*TEXTS, "json"} | {_ending(wanted.caption or "")}
    current: str | None = None
    texts: dict[str, bytes] = {}
    endings: set[str] = set()
    while (member := tar.next()) is not None:
        tar.members.clear()  # else it keeps every member it has seen
        if not member.isfile() or _is_hidden(member.name):
            continue
        folder, slash, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        key, ending = f"{folder}{slash}{stem}", ending.lower()
        # A sample has one file of an ending: a second one is the next sample of that name.
        if current is not None and (key != current or ending in endings):
            yield current, texts, endings
            texts, endings = {}, set()
        current = key
        endings.add(ending)
        if ending in read:
            texts[ending] = tar.extractfile(member).read()
    if current is not None:
        yield current, texts, endings


def _ending(name: str) -> str:
    return name.removeprefix(".").lower()


def _from_sample(key: str, texts: dict[str, bytes], endings: set[str], wanted: Wanted) -> list[Row]:
    if wanted.key is not None:
        named = _json_key(texts.get("json"), wanted.key)
        if named is None:
            return [Row(key, "", f"no .json beside it that holds the field {wanted.key}")]
        key = named
    asked = _ending(wanted.caption or "")
    usual = next((ending for ending in TEXTS if ending in texts), None)
    ending = (
        usual if wanted.caption is None else asked if asked in texts and asked != "json" else None
    )
    if ending is not None:
        return [Row(key, *decoded(texts[ending].strip(b"\r\n"), f"its .{ending} is not UTF-8"))]
    if "json" not in texts:
        found = ", ".join(f".{each}" for each in sorted(endings))
        problem = f"no .json beside it that could hold the field {wanted.caption}, and no such file"
        return [Row(key, "", f"{problem} ({found})")]
    if (encoding := foreign_encoding(texts["json"])) is not None:
        return [Row(key, "", f"its .json: not UTF-8 but {encoding}")]
    rows = rows_of_json(texts["json"], Wanted(wanted.caption), key, "its .json", usual_key=False)
    return [row._replace(key=key) for row in rows]


def _json_key(data: bytes | None, name: str) -> str | None:
    try:
        record = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    return key_text(record.get(name)) if isinstance(record, dict) else None
