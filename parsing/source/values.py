"""What a value of an input means, the same for every format.

| value | as a caption | as a key |
|---|---|---|
| text | itself | itself; empty text is no key |
| bytes | UTF-8, else the row has a problem | UTF-8 |
| null, NaN, an empty list | an empty caption | no key: `<file>:<row>` stands in |
| a list | one row for each caption in it that is not null | no key |
| a number | a problem | its digits (`12.0` is `12`) |
| a record | the caption in it, else a problem | its `path`, as images of data sets have it |
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from common.errors import UserError

# Usual names, in any case; the first that is there counts.
CAPTION_NAMES = ("caption", "text", "txt", "alt_text", "captions")
KEY_NAMES = (
    *("key", "__key__", "url", "image_url", "file_name", "filename", "filepath", "image_path"),
    *("image_id", "image", "id"),
)
_BOMS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class Row(NamedTuple):
    """One image's caption.

    Attributes:
        key: what the image is called where it lives (URL, webdataset key, a key column), or
            `<file>:<row>` where nothing names it.
        caption: the text as it was written; "" where there is none.
        problem: why this row cannot be parsed, or None.
    """

    key: str
    caption: str
    problem: str | None = None


@dataclass(frozen=True)
class Wanted:
    """Which columns the user named; None takes the first usual one."""

    caption: str | None = None
    key: str | None = None


def usual(names: Iterable[str], known: Sequence[str]) -> str | None:
    """The first of the known names that is among the names, in this or in another case."""
    names = list(names)
    lower = {name.lower(): name for name in reversed(names)}
    return next((name if name in names else lower[name] for name in known if name in lower), None)


def columns(
    names: Sequence[str], wanted: Wanted, path: str, usable: Iterable[str] | None = None
) -> tuple[str, str | None]:
    """The columns of captions and of keys; a key may be missing.

    Args:
        usable: columns whose type can be a key; None takes all.

    Raises:
        UserError: a column that was asked for is not there, or none that usually holds captions.
    """
    has = f"it has {', '.join(names)}"
    for flag, name in (("--caption-column", wanted.caption), ("--key-column", wanted.key)):
        if name is not None and name not in names:
            raise UserError(f"{path} has no column '{name}' ({has}): see {flag}")
    caption = wanted.caption or usual(names, CAPTION_NAMES)
    if caption is None:
        raise UserError(f"no usual caption column in {path} ({has}): give --caption-column")
    keys = [name for name in (names if usable is None else usable) if name != caption]
    return caption, wanted.key or usual(keys, KEY_NAMES)


def no_key(path: str) -> str:
    """The note for an input whose images have no names."""
    return (
        f"{path} has no key column ({', '.join(KEY_NAMES[:6])} ...), so its images are called "
        f"{path}:1 and so on, which no image is: give --key-column"
    )


def rows_of(key: Any, caption: Any, name: str, fallback: str, where: str) -> list[Row]:
    """The rows of one record.

    Args:
        key, caption: values of whatever type.
        name: of the caption's column, for its problem.
        fallback: the key where there is none.
        where: the row's place in its file, for its problem.
    """
    key = key_text(key) or fallback
    if not isinstance(caption, list):
        return [_row(key, caption, name, where)]
    captions = [each for each in caption if not is_null(each)]
    return [_row(key, each, name, where) for each in captions] or [Row(key, "")]


def _row(key: str, caption: Any, name: str, where: str) -> Row:
    if is_null(caption):
        return Row(key, "")
    if isinstance(caption, dict):  # one of several captions, with an id of its own
        inner = usual(caption, (*CAPTION_NAMES, "raw", "sentence"))
        if inner is not None and isinstance(caption[inner], str | bytes):
            caption = caption[inner]
    if isinstance(caption, bytes):
        return Row(key, *decoded(caption, f"{where}: not UTF-8"))
    problem = None if isinstance(caption, str) else f"{where}: the field {name} is not text"
    return Row(key, as_text(caption), problem)


def rows_of_json(
    line: bytes, wanted: Wanted, fallback: str, where: str, usual_key: bool = True
) -> list[Row]:
    """The rows of one JSON object.

    Args:
        usual_key: False takes no key but one that was asked for.
    """
    problem = None
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except (ValueError, RecursionError):
        problem = "not JSON"
    else:
        problem = None if isinstance(record, dict) else "not a JSON object"
    if problem is not None:
        return [Row(fallback, line.decode("utf-8", "replace"), f"{where}: {problem}")]
    key = _key_of(record, wanted.key, usual_key)
    named = wanted.caption
    found = usual(record, CAPTION_NAMES) if named is None else named if named in record else None
    if found is None:
        names = CAPTION_NAMES if named is None else (named,)
        return [Row(key or fallback, "", f"{where}: no field {' or '.join(names)}")]
    return rows_of(key, record[found], found, fallback, where)


def _key_of(record: dict[str, Any], named: str | None, usual_key: bool) -> str | None:
    if named is not None or not usual_key:
        return key_text(record.get(named))
    for name in KEY_NAMES:
        if name in record and (text := key_text(record[name])) is not None:
            return text
    filled = {name: text for name, value in record.items() if (text := key_text(value))}
    found = usual(filled, KEY_NAMES)
    return None if found is None else filled[found]


def key_text(value: Any) -> str | None:
    """A key as text, None where the value is no key."""
    if isinstance(value, dict):
        value = value.get("path")
    if is_null(value) or isinstance(value, (list, dict)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return as_text(value) or None


def is_null(value: Any) -> bool:
    """Whether a value is None or NaN, which is how pandas writes a missing text."""
    return value is None or (isinstance(value, float) and value != value)


def as_text(value: Any) -> str:
    """Any value as text that a file can hold."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    text = str(value)
    # JSON can hold half a surrogate pair, which no file can: it becomes a question mark.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def decoded(data: bytes, problem: str) -> tuple[str, str | None]:
    """Bytes as text without a byte-order mark, and the problem where they are not UTF-8."""
    if (encoding := foreign_encoding(data)) is not None:
        return data.decode("utf-8", "replace"), f"{problem} but {encoding}"
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8"), None
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace"), problem


def foreign_encoding(data: bytes) -> str | None:
    """The encoding that a byte-order mark tells, where it is not UTF-8."""
    return next((name for bom, name in _BOMS.items() if data.startswith(bom)), None)


def without_mark(data: bytes, path: str) -> bytes:
    """The beginning of a text file without its byte-order mark.

    Raises:
        UserError: the mark is not UTF-8's.
    """
    if (encoding := foreign_encoding(data)) is not None:
        raise UserError(
            f"{path} is {encoding}, not UTF-8: convert it first (iconv -f {encoding} -t UTF-8)"
        )
    return data.removeprefix(codecs.BOM_UTF8)


def holds_text(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type are text, bytes, nothing at all, or lists of those."""
    types = pa.types
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)
    if types.is_dictionary(kind) or any(test(kind) for test in lists):
        return holds_text(kind.value_type) or types.is_struct(kind.value_type)
    return any(
        test(kind)
        for test in (
            *(types.is_string, types.is_large_string, types.is_string_view, types.is_null),
            *(types.is_binary, types.is_large_binary, types.is_binary_view),
        )
    )


def as_bytes(kind: pa.DataType) -> pa.DataType:
    """An Arrow type with bytes in the place of texts, also within lists and records."""
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.large_binary()
    if types.is_dictionary(kind):
        return as_bytes(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([field.with_type(as_bytes(field.type)) for field in kind])
    if types.is_fixed_size_list(kind):
        return pa.list_(as_bytes(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(as_bytes(kind.value_type))
    return kind


def may_hold_keys(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type can name images."""
    types = pa.types
    if types.is_nested(kind):
        return False
    return holds_text(kind) or types.is_integer(kind) or types.is_floating(kind)


def not_text(column: str, path: str, kind: Any) -> UserError:
    """The error for a caption column of another type."""
    return UserError(
        f"column '{column}' of {path} holds {kind}, not text: name another with --caption-column"
    )
