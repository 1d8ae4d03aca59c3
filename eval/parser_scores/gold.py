"""Readers of gold tags: captions together with the objects and attributes that people saw in them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parsing.errors import UserError

_BETWEEN_TRIPLES = re.compile(r"\)\s*,\s*\(")


@dataclass(frozen=True)
class GoldCaption:
    """One caption and its gold tags, spelt as in the file.

    Attributes:
        objects: what the caption names, each once, in the file's order.
        attributes: (attribute, object) pairs, each once.
    """

    caption: str
    objects: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]


def read_gold(path: str | Path, limit: int | None = None) -> list[GoldCaption]:
    """Reads gold tags by the file's ending.

    `.csv` is FACTUAL (columns `caption` and `scene_graph`); `.jsonl` and `.json` hold one object
    per line with `caption`, `objects` (list of strings) and `attributes` (list of
    `[attribute, object]` or `{"attribute": ..., "object": ...}`).

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
        for column, kind in (("caption", str), ("objects", list), ("attributes", list)):
            if column not in row:
                raise UserError(f"{where} has no `{column}`")
            if not isinstance(row[column], kind):
                raise UserError(
                    f"{where}: `{column}` is not a {'string' if kind is str else 'list'}"
                )
        if not all(isinstance(tag, str) for tag in row["objects"]):
            raise UserError(f"{where}: `objects` holds something that is not a string")
        pairs = [_pair(value, where) for value in row["attributes"]]
        objects = dict.fromkeys([*row["objects"], *(thing for _, thing in pairs)])
        yield GoldCaption(row["caption"], tuple(objects), tuple(dict.fromkeys(pairs)))


def _pair(value: object, where: str) -> tuple[str, str]:
    if isinstance(value, dict) and value.keys() == {"attribute", "object"}:
        value = [value["attribute"], value["object"]]
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return value[0], value[1]
    raise UserError(f"{where}: `attributes` holds something other than [attribute, object]")
