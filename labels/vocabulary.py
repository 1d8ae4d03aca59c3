"""The vocabulary: the tag, kind and frequency of each column of the label matrix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from common.errors import UserError

OBJECT = "object"
ATTRIBUTE = "attribute"
KINDS = (OBJECT, ATTRIBUTE)

VOCABULARY = pa.schema(
    [
        pa.field("tag_id", pa.int32(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("frequency", pa.float64(), nullable=False),
    ]
)
CAPTIONS_KEY = b"tagalign.captions"  # how many captions were counted: frequency = count / captions
FINGERPRINT_KEY = b"tagalign.vocabulary.fingerprint"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """T tags; the position of a tag is its id and its column of the label matrix.

    An object and an attribute of the same word are two tags.

    Attributes:
        tags: T strings.
        kinds: T strings, each `object` or `attribute`.
        counts: int64 of shape (T,): number of captions with the tag, each caption once.
        captions: number of captions that were counted.
    """

    tags: Sequence[str]
    kinds: Sequence[str]
    counts: np.ndarray
    captions: int

    def __len__(self) -> int:
        return len(self.tags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def frequencies(self) -> np.ndarray:
        """float64 of shape (T,): share of captions with the tag, the prior of the balanced softmax."""
        return self.counts / max(self.captions, 1)

    def ids(self, kind: str) -> np.ndarray:
        """int32: the ids of all tags of one kind, ascending."""
        return np.flatnonzero(np.asarray(self.kinds, dtype=object) == kind).astype(np.int32)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits, different for every vocabulary."""
        return xxhash.xxh3_128_hexdigest(self.to_json().encode())

    def table(self) -> pa.Table:
        """The vocabulary as a table of schema `VOCABULARY`, ready to be written as Parquet."""
        columns = [
            pa.array(np.arange(len(self), dtype=np.int32)),
            pa.array(list(self.tags), pa.string()),
            pa.array(list(self.kinds), pa.string()),
            pa.array(np.asarray(self.counts, dtype=np.int64)),
            pa.array(self.frequencies),
        ]
        about = {CAPTIONS_KEY: str(self.captions), FINGERPRINT_KEY: self.fingerprint}
        return pa.Table.from_arrays(columns, schema=VOCABULARY.with_metadata(about))

    @classmethod
    def from_table(cls, table: pa.Table, name: str) -> Vocabulary:
        """Reads a table of schema `VOCABULARY`.

        Args:
            table: the table; more columns than the contract's are ignored.
            name: of the file, for messages.

        Raises:
            UserError: a column is missing or of a wrong type, a value is null, an id is not the number
                of its row, a kind is unknown, or a tag occurs twice.
        """
        check_columns(table.schema, VOCABULARY, name)
        about = table.schema.metadata or {}
        table = table.select(VOCABULARY.names)
        for column in VOCABULARY.names:
            if table[column].null_count:
                raise UserError(f"column '{column}' of the vocabulary {name} holds nulls")
        table = table.cast(VOCABULARY)
        if not np.array_equal(table["tag_id"].to_numpy(), np.arange(len(table))):
            raise UserError(f"column 'tag_id' of the vocabulary {name} does not count 0, 1, 2, ...")
        tags, kinds = table["tag"].to_pylist(), table["kind"].to_pylist()
        counts, frequencies = table["count"].to_numpy(), table["frequency"].to_numpy()
        if CAPTIONS_KEY in about:
            captions = int(about[CAPTIONS_KEY])
        else:  # another tool wrote it: the most frequent tag gives the most precise denominator
            top = int(np.argmax(counts)) if len(counts) else 0
            known = len(counts) and frequencies[top] > 0
            captions = round(counts[top] / frequencies[top]) if known else 0
        return cls(tags, kinds, counts, captions)._checked(name)

    def to_json(self) -> str:
        """The JSON in a label file's footer, about 20 bytes a tag; it leaves out the frequencies."""
        run_lengths: list[list[Any]] = []  # [["object", 10000], ["attribute", 10000]]
        for kind in self.kinds:
            if run_lengths and run_lengths[-1][0] == kind:
                run_lengths[-1][1] += 1
            else:
                run_lengths.append([kind, 1])
        value = {
            "captions": self.captions,
            "kinds": run_lengths,
            "counts": np.asarray(self.counts).tolist(),
            "tags": list(self.tags),
        }
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> Vocabulary:
        """Reads what `to_json` returned.

        Args:
            text: the JSON.
            name: of the file, for messages.

        Raises:
            UserError: the JSON is damaged.
        """
        try:
            value = json.loads(text)
            kinds = [kind for kind, times in value["kinds"] for _ in range(times)]
            counts = np.asarray(value["counts"], dtype=np.int64)
            found = cls(value["tags"], kinds, counts, int(value["captions"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"the vocabulary inside {name} is damaged: {error}") from error
        return found._checked(name)

    def _checked(self, name: str) -> Vocabulary:
        if not len(self.tags) == len(self.kinds) == len(self.counts):
            raise UserError(f"the vocabulary of {name} has columns of unequal lengths")
        unknown = set(self.kinds) - set(KINDS)
        if unknown:
            raise UserError(
                f"column 'kind' of the vocabulary {name} holds {sorted(unknown)[0]!r}, "
                f"which is neither {OBJECT} nor {ATTRIBUTE}"
            )
        if len(set(zip(self.kinds, self.tags, strict=True))) < len(self.tags):
            raise UserError(f"the vocabulary {name} has the same tag and kind twice")
        return self


def check_columns(found: pa.Schema, wanted: pa.Schema, name: str, null_types: bool = False) -> None:
    """Compares the columns of a file with a schema; Arrow's large and view types count as plain ones.

    Args:
        found: schema of the file; it may have more columns.
        wanted: the columns that it must have.
        name: of the file, for messages.
        null_types: accept columns of text and of lists whose type is null, see `is_null`.

    Raises:
        UserError: a column is missing or of a wrong type; the message names the first such column.
    """
    for field in wanted:
        if field.name not in found.names:
            raise UserError(
                f"{name} has no column '{field.name}' (it has {', '.join(found.names)})"
            )
        kind = found.field(field.name).type
        empty = null_types and is_null(kind) and not pa.types.is_integer(field.type)
        if not empty and not _same(kind, field.type):
            raise UserError(f"column '{field.name}' of {name} holds {kind}, not {field.type}")


def is_null(kind: pa.DataType) -> bool:
    """Whether a type holds nothing: all values are null, or all lists are empty."""
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind):
        return is_null(kind.value_type)
    if types.is_struct(kind):
        return all(is_null(field.type) for field in kind)
    return types.is_null(kind)


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    types = pa.types
    if types.is_string(wanted):
        return types.is_string(found) or types.is_large_string(found) or types.is_string_view(found)
    if types.is_list(wanted):
        is_list = types.is_list(found) or types.is_large_list(found) or types.is_list_view(found)
        return is_list and _same(found.value_type, wanted.value_type)
    if types.is_struct(wanted):
        names = (
            [found.field(i).name for i in range(found.num_fields)] if types.is_struct(found) else []
        )
        return all(f.name in names and _same(found.field(f.name).type, f.type) for f in wanted)
    if types.is_integer(wanted):
        return types.is_integer(found)
    return found == wanted


def read_vocabulary_fingerprint(path: str) -> str | None:
    """The fingerprint in the footer of a vocabulary file; None if there is none."""
    try:
        about = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    return about[FINGERPRINT_KEY].decode() if FINGERPRINT_KEY in about else None


def vocabulary_text(vocabulary: Vocabulary) -> str:
    """The vocabulary as tab-separated text, a tag per line, with control characters escaped."""
    lines = ["tag_id\tkind\tcount\tfrequency\ttag"]
    rows = zip(
        vocabulary.kinds, vocabulary.counts, vocabulary.frequencies, vocabulary.tags, strict=True
    )
    for number, (kind, count, frequency, tag) in enumerate(rows):
        lines.append(f"{number}\t{kind}\t{count}\t{frequency:.6g}\t{_one_line(tag)}")
    return "\n".join(lines) + "\n"


def _one_line(tag: str) -> str:
    if tag.isprintable():
        return tag
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in tag)
