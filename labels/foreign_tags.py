"""Reads tags that others have released as a stream: JSON of any size, JSON lines, and Parquet.

| file | as it is released |
|---|---|
| `.json`, an object | `{image: [tag id, ...]}`: `CC12M_url_object_index.json` of the paper's authors; tags in place of ids too |
| `.json`, a list | `[{"image_path": ..., "caption": [...], "union_label_id": [...]}]`: RAM's and Tag2Text's `cc12m_ram.json` |
| `.jsonl`, `.parquet` | records of a key and tags, and of a caption and attributes where there are any |

Only a small part of a file is in memory at a time: JSON is read event by event (ijson).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import ijson
import pyarrow.parquet as pq

from common.errors import UserError, reason
from parsing.source.files import COMPRESSED, opened
from parsing.source.values import CAPTION_NAMES, KEY_NAMES, as_text, is_null, key_text, usual

TAG_NAMES = ("tags", "objects", "union_label_id", "tag_ids", "label_ids", "labels")
IMAGE_NAMES = (*KEY_NAMES, "image_path", "path", "img_path")
FORMATS = {"json": (".json",), "jsonl": (".jsonl", ".ndjson"), "parquet": (".parquet", ".pq")}
_FIRST = 200  # rows, of which at least half must be readable
_BATCH = 8_192


@dataclass(slots=True)
class Tagged:
    """The tags of one image.

    Attributes:
        key: the image's name in the file.
        tags: object tags, or ids of them, in the file's order.
        attributes: (attribute, object or None) pairs.
        caption: "" where the file has none.
        problem: why the tags cannot be read, or None.
    """

    key: str
    tags: list[str | int] = field(default_factory=list)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)
    caption: str = ""
    problem: str | None = None


def format_of(path: str) -> str:
    """The format of a file by the ending of its name, of `FORMATS`.

    Raises:
        UserError: no format has this ending.
    """
    name = path.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    for format, endings in FORMATS.items():
        if name.endswith(endings):
            return format
    endings = ", ".join(ending for each in FORMATS.values() for ending in each)
    raise UserError(f"cannot tell the format of {path} from its name: it should end in {endings}")


def read_tags(
    path: str, tag_field: str | None = None, key_field: str | None = None
) -> Iterator[Tagged]:
    """Streams the images of a file in its order.

    Args:
        path: a local path or a URL; it may be compressed.
        tag_field: column or field of the tags; None takes the first of `TAG_NAMES` that is there.
        key_field: likewise, of `IMAGE_NAMES`.

    Raises:
        UserError: the file is missing, cut off, of another format, or most of its first rows cannot
            be read.
    """
    format = format_of(path)
    records = {"json": _read_json, "jsonl": _read_lines, "parquet": _read_parquet}[format]
    rows = _guarded(records, path, tag_field, key_field)
    first = list(itertools.islice(rows, _FIRST))
    problems = [row.problem for row in first if row.problem is not None]
    if len(problems) * 2 > len(first):
        raise UserError(f"{path} does not hold tags: {problems[0]}")
    if not first:
        raise UserError(f"there are no images in {path}")
    return itertools.chain(first, rows)


def _guarded(records: Any, path: str, *fields: str | None) -> Iterator[Tagged]:
    number = 0
    try:
        with opened(path) as file:
            for row in records(file, path, *fields):
                yield row
                number += 1
    except (UserError, GeneratorExit):
        raise
    except ijson.IncompleteJSONError as error:
        raise UserError(f"{path} is cut off or damaged after {number:,} images") from error
    except Exception as error:  # each codec, file system and JSON error raises its own
        raise UserError(f"cannot read {path} after {number:,} images: {reason(error)}") from error


def _read_json(
    file: BinaryIO, path: str, tag_field: str | None, key_field: str | None
) -> Iterator[Tagged]:
    head = file.peek(64) if hasattr(file, "peek") else b""
    if not head:
        head = file.read(64)
        file.seek(0)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"{":
        for key, value in ijson.kvitems(file, "", use_float=True):
            if not key:
                yield Tagged(f"{path}:", problem="an entry has an empty name")
            elif isinstance(value, dict):
                yield tagged_of({"key": key} | value, tag_field, None, f"the entry {key}")
            else:
                yield _with_tags(Tagged(as_text(key)), value, f"the entry {key}")
    elif start == b"[":
        for number, record in enumerate(ijson.items(file, "item", use_float=True), start=1):
            yield tagged_of(record, tag_field, key_field, f"entry {number}")
    else:
        raise UserError(f"{path} is no JSON: it begins with {head[:20]!r}")


def _read_lines(
    file: BinaryIO, path: str, tag_field: str | None, key_field: str | None
) -> Iterator[Tagged]:
    for number, line in enumerate(file, start=1):
        line = line.strip()
        if not line:
            continue
        try:
            record = json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        except (ValueError, RecursionError):
            yield Tagged(f"{path}:{number}", problem=f"line {number} is not JSON")
            continue
        yield tagged_of(record, tag_field, key_field, f"line {number}")


def _read_parquet(
    file: BinaryIO, path: str, tag_field: str | None, key_field: str | None
) -> Iterator[Tagged]:
    with pq.ParquetFile(file) as table:
        names = table.schema_arrow.names
        chosen = [_chosen(names, known, named) for known, named in (
            (TAG_NAMES, tag_field), (IMAGE_NAMES, key_field),
        )]  # fmt: skip
        for name, known, flag in zip(chosen, (TAG_NAMES, IMAGE_NAMES), ("tag", "key"), strict=True):
            if name is None:
                raise UserError(
                    f"{path} has no column of {flag}s ({known[0]} ...; it has {', '.join(names)}): "
                    f"name it with --{flag}-field"
                )
        columns = chosen + [each for each in (usual(names, CAPTION_NAMES),) if each]
        columns += [each for each in ("attributes",) if each in names]
        number = 0
        for batch in table.iter_batches(_BATCH, columns=list(dict.fromkeys(columns))):
            for record in batch.to_pylist():
                number += 1
                yield tagged_of(record, *chosen, f"row {number}")


def tagged_of(record: Any, tag_field: str | None, key_field: str | None, where: str) -> Tagged:
    """One record as the tags of an image; `problem` says what is wrong with it.

    Args:
        record: of JSON or Parquet.
        tag_field, key_field: as in `read_tags`.
        where: its place in the file.
    """
    if not isinstance(record, dict):
        return Tagged(where, problem=f"{where} is no record")
    key = key_text(record.get(_chosen(record, IMAGE_NAMES, key_field)))
    if key is None:
        return Tagged(where, problem=f"{where} names no image ({key_field or IMAGE_NAMES[0]})")
    name = _chosen(record, TAG_NAMES, tag_field)
    if name is None:
        return Tagged(key, problem=f"{where} has no field {tag_field or ' or '.join(TAG_NAMES)}")
    found = Tagged(key, caption=_caption(record))
    pairs = record.get("attributes")
    if name != "attributes" and isinstance(pairs, list):
        found.attributes = [pair for each in pairs if (pair := _pair(each)) is not None]
    return _with_tags(found, record[name], where)


def _chosen(names: Any, known: Sequence[str], named: str | None) -> str | None:
    if named is not None:
        return named if named in names else None
    return usual(names, known)


def _with_tags(found: Tagged, value: Any, where: str) -> Tagged:
    if is_null(value):
        return found
    if isinstance(value, str):  # RAM's own output is `cat | sofa`; others write `cat, sofa`
        separator = next((s for s in ("|", ";", ",") if s in value), None)
        found.tags = (
            [tag.strip() for tag in value.split(separator)] if separator else [value.strip()]
        )
        return found
    if not isinstance(value, list):
        found.problem = f"{where} holds {type(value).__name__} in place of a list of tags"
        return found
    value = [tag for tag in value if not is_null(tag)]
    tags = [int(tag) if isinstance(tag, float) and tag.is_integer() else tag for tag in value]
    wrong = next((t for t in tags if isinstance(t, bool) or not isinstance(t, (str, int))), None)
    if wrong is not None:
        found.problem = f"{where} holds {json.dumps(wrong, default=str)} in place of a tag"
        return found
    found.tags = [as_text(tag).strip() if isinstance(tag, str) else tag for tag in tags]
    return found


def _caption(record: dict[str, Any]) -> str:
    name = usual(record, CAPTION_NAMES)
    value = record.get(name) if name else None
    if isinstance(value, list):  # RAM has several captions an image: the first one is taken
        value = next((each for each in value if isinstance(each, str)), None)
    return as_text(value) if isinstance(value, str) else ""


def _pair(value: Any) -> tuple[str, str | None] | None:
    if isinstance(value, str):
        value = [value, None]
    if isinstance(value, dict):
        value = [value.get("attribute"), value.get("object")]
    if not isinstance(value, (list, tuple)) or not value or not isinstance(value[0], str):
        return None
    other = value[1] if len(value) > 1 and isinstance(value[1], str) else None
    attribute = as_text(value[0]).strip()
    return (attribute, as_text(other).strip() if other else None) if attribute else None
