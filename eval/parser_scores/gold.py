"""Readers of gold tags: captions together with the objects and attributes that people saw in them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError

_BETWEEN_TRIPLES = re.compile(r"\)\s*,\s*\(")


@dataclass(frozen=True)
class GoldCaption:
    """One caption and its gold tags, spelt as in the file.

    Attributes:
        objects: what the caption names, each once, in the file's order.
        attributes: (attribute, object) pairs, each once.
        maybe: objects that one could argue about; they count neither for nor against a parser.
        maybe_attributes: (attribute, object) pairs that one could argue about, likewise.
    """

    caption: str
    objects: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    maybe: tuple[str, ...] = ()
    maybe_attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class GoldFile:
    """One file of gold tags.

    Attributes:
        name: as short as tells it from the other files of the same comparison.
        path: as it was given.
        captions: in the file's order.
    """

    name: str
    path: str
    captions: tuple[GoldCaption, ...]


def read_gold_files(paths: Sequence[str | Path], limit: int | None = None) -> list[GoldFile]:
    """Reads several files, each as `read_gold` does.

    Args:
        paths: different files.
        limit: read only the first so many captions of each.

    Raises:
        UserError: as `read_gold`.
    """
    names = told_apart([str(Path(path)) for path in paths])
    return [
        GoldFile(name, str(path), tuple(read_gold(path, limit)))
        for name, path in zip(names, paths, strict=True)
    ]


def told_apart(paths: Sequence[str]) -> list[str]:
    """Each path's last parts, as few of them as no other path ends with.

    Args:
        paths: of files or folders, or URLs; parts are separated by `/`. A path that is the whole
            end of another one stays as it is.
    """
    parts = [path.rstrip("/").split("/") for path in paths]
    names = []
    for place, own in enumerate(parts):
        others = parts[:place] + parts[place + 1 :]
        length = 1
        while length < len(own) and any(o[-length:] == own[-length:] for o in others):
            length += 1
        names.append("/".join(own[-length:]))
    return names


def read_gold(path: str | Path, limit: int | None = None) -> list[GoldCaption]:
    """Reads gold tags by the file's ending.

    `.csv` is FACTUAL (columns `caption` and `scene_graph`); `.jsonl` and `.json` hold one object
    per line with `caption`, `objects` (list of strings) and `attributes` (list of
    `[attribute, object]` or `{"attribute": ..., "object": ...}`), and, where there is something
    to argue about, `maybe` and `maybe_attributes` of the same two kinds.

    Args:
        path: the file.
        limit: read only the first so many captions.

    Raises:
        UserError: the file is missing, empty, of another kind, lacks a column, or a line of it
            cannot be read; the sentence names the column or the line.
    """
    path = Path(path)
    readers = {".csv": _read_factual, ".jsonl": _read_jsonl, ".json": _read_jsonl}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: gold tags are read from .csv (FACTUAL) or .jsonl files")
    gold = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            for item in readers[path.suffix.lower()](path, lines):
                if limit is not None and len(gold) >= limit:
                    break
                gold.append(item)
    except OSError as error:
        raise UserError(f"cannot read the gold tags {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason}") from error
    if not gold:
        raise UserError(f"{path} holds no captions")
    return gold


def _read_factual(path: Path, lines: Iterator[str]) -> Iterator[GoldCaption]:
    reader = csv.DictReader(lines)
    for column in ("caption", "scene_graph"):
        if column not in (reader.fieldnames or []):
            found = ", ".join(reader.fieldnames or []) or "none"
            raise UserError(f"{path} has no column `{column}` (found: {found})")
    for row in reader:
        if row["caption"] is None or row["scene_graph"] is None:
            raise UserError(f"{path}, line {reader.line_num}: the row ends too early")
        yield GoldCaption(row["caption"], *read_scene_graph(row["scene_graph"]))


def read_scene_graph(graph: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Objects and (attribute, object) pairs of FACTUAL's `( subject , predicate , object ) , ...`.

    Objects are the subjects, and the objects of every predicate but `is`; attributes are the
    objects of `is`. `( subject )` alone is an object without relations.
    """
    objects: dict[str, None] = {}
    attributes: dict[tuple[str, str], None] = {}
    for triple in _BETWEEN_TRIPLES.split(graph.strip()):
        parts = [part.strip() for part in triple.strip().strip("()").split(" , ")]
        if parts[0]:
            objects[parts[0]] = None
        if len(parts) == 3 and parts[1] == "is":
            attributes[parts[2], parts[0]] = None
        elif len(parts) == 3 and parts[2]:
            objects[parts[2]] = None
    return tuple(objects), tuple(attributes)


def _read_jsonl(path: Path, lines: Iterator[str]) -> Iterator[GoldCaption]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where} is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise UserError(f"{where} is not a JSON object")
        if "caption" not in row:
            raise UserError(f"{where} has no `caption`")
        if not isinstance(row["caption"], str):
            raise UserError(f"{where}: `caption` is not a string")
        for column in ("objects", "attributes"):
            if column not in row:
                raise UserError(f"{where} has no `{column}`")
        pairs = _pairs(row, "attributes", where)
        objects = dict.fromkeys([*_strings(row, "objects", where), *(o for _, o in pairs)])
        maybe = _strings(row, "maybe", where)
        yield GoldCaption(
            row["caption"], tuple(objects), pairs, maybe, _pairs(row, "maybe_attributes", where)
        )


def _list(row: dict[str, Any], column: str, where: str) -> list[Any]:
    values = row.get(column, [])
    if not isinstance(values, list):
        raise UserError(f"{where}: `{column}` is not a list")
    return values


def _strings(row: dict[str, Any], column: str, where: str) -> tuple[str, ...]:
    values = _list(row, column, where)
    if not all(isinstance(value, str) for value in values):
        raise UserError(f"{where}: `{column}` holds something that is not a string")
    return tuple(dict.fromkeys(values))


def _pairs(row: dict[str, Any], column: str, where: str) -> tuple[tuple[str, str], ...]:
    """The column's (attribute, object) pairs, each once."""
    pairs: dict[tuple[str, str], None] = {}
    for value in _list(row, column, where):
        if isinstance(value, dict) and value.keys() == {"attribute", "object"}:
            value = [value["attribute"], value["object"]]
        if not (
            isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
        ):
            raise UserError(f"{where}: `{column}` holds something other than [attribute, object]")
        pairs[value[0], value[1]] = None
    return tuple(pairs)
