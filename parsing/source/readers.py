"""Caption readers: TSV, Parquet, JSONL, webdataset tars and Hugging Face data sets, as a stream.

Every reader yields `Row`s in the order of its input and holds little of it: a line, a sample and
the names of those before it in the same tar, a Parquet file's row group as it is compressed. A row
that cannot be read is still a row: it says what is wrong with it in `problem`. A file that cannot
be read at all raises `UserError`. What a value means is the same for all: see `values`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, reason
from common.flags import setting
from common.quiet import without_warnings
from parsing.source.appearance import looks_like
from parsing.source.files import FORMATS, HF_PREFIX, find_files, format_of, opened
from parsing.source.identity import data_set_identity, file_identity
from parsing.source.tsv import read_tsv
from parsing.source.values import (
    CAPTION_NAMES,
    KEY_NAMES,
    Row,
    Wanted,
    as_bytes,
    columns,
    holds_text,
    is_null,
    may_hold_keys,
    no_key,
    not_text,
    rows_of,
    rows_of_json,
    without_mark,
)
from parsing.source.webdataset import read_webdataset

__all__ = ["CAPTION_NAMES", "HF_PREFIX", "KEY_NAMES", "Row", "Source"]

FIRST = 200  # rows of a file that are looked at before one of them is taken
FEW = 0.5  # share of those that must be readable
ZEROS = 0.2  # share of their characters that are zero bytes, above which they are no UTF-8

Tell = Callable[[str, str], None]


@dataclass(frozen=True)
class Source:
    """Where captions come from: files of one or several kinds, or a Hugging Face data set.

    What the flags mean for each format stands in `parsing/source/README.md`.
    """

    paths: tuple[str, ...] = setting(
        ("data/captions",),
        "files, folders, globs, URLs of fsspec (s3://...), or hf:NAME[:CONFIG]; default data/captions",
        flag="--captions",
        metavar="PATH",
        action="extend",
    )
    format: str | None = setting(
        None,
        "where the file's ending does not tell; tsv is url<TAB>caption, or has a header",
        choices=sorted(FORMATS),
    )
    caption_column: str | None = setting(
        None,
        "column, field of JSON, or ending in a webdataset; default is the first usual name (caption, "
        "text ...)",
        metavar="NAME",
    )
    key_column: str | None = setting(
        None, "the image's key: default likewise (key, url, file_name ...)", metavar="NAME"
    )
    split: str = setting("train", "of a Hugging Face data set")

    def files(self) -> list[str]:
        """Every input, globs and folders expanded, in the order given and sorted within each.

        Raises:
            UserError: as `parsing.source.files.find_files`; a file is named twice.
        """
        found: dict[str, str] = {}
        for path in self.paths:
            hub = path.startswith(HF_PREFIX)
            for file in [path] if hub else find_files(path, self.format):
                local = file.removeprefix("file://")
                place = file if "://" in local or hub else os.path.realpath(local)
                if place in found:
                    raise UserError(f"{file} is named twice: name every input once in --captions")
                found[place] = file
        return list(found.values())

    def identity(self) -> dict[str, Any]:
        """What tells this input from another one: the files' names and contents, and how they are read.

        Folders are no part of it: data that was moved, or is named from elsewhere, is the same. A
        format is the same whether it is given or told by the files' names.
        """
        settings = {name: value for name, value in asdict(self).items() if name != "paths"}
        files = self.files()
        hubs = [path for path in files if path.startswith(HF_PREFIX)]
        settings["format"] = sorted({self._format(path) for path in files if path not in hubs})
        settings["split"] = self.split if hubs else None
        return {
            "files": [
                data_set_identity(path) if path in hubs else file_identity(path) for path in files
            ],
            **settings,
        }

    def rows(self, tell: Tell = lambda kind, note: None) -> Iterator[Row]:
        """Streams the rows of every file, one file after the other.

        Args:
            tell: see `read`.

        Raises:
            UserError: a missing, truncated or unreadable file, or a missing column.
        """
        for path in self.files():
            yield from self.read(path, tell)

    def checked_rows(self, tell: Tell = lambda kind, note: None) -> Iterator[Row]:
        """As `rows`, where every file passes `checked`."""
        for path in self.files():
            yield from self.checked(path, tell)

    def check(self) -> None:
        """Looks at the first rows of the first file, without reading on.

        Raises:
            UserError: as `checked`; no file is there.
        """
        first = self.files()[0]
        if not first.startswith(HF_PREFIX):
            rows = self.checked(first)
            next(rows, None)
            rows.close()

    def read(self, path: str, tell: Tell = lambda kind, note: None) -> Iterator[Row]:
        """Streams the rows of one file.

        Args:
            path: one of `files`.
            tell: called with a kind of note and the note, for what the user should know.

        Raises:
            UserError: as `rows`.
        """
        hub = path.startswith(HF_PREFIX)
        wanted = Wanted(self.caption_column, self.key_column)
        try:
            if hub:
                yield from _read_hub(path, self.split, wanted, tell)
            else:
                yield from _READERS[self._format(path)](path, wanted, tell)
        except UserError:
            raise
        except Exception as error:  # each codec, file system and network raises its own
            hint = "" if hub else " (damaged, cut off or another format?)"
            looks = None if hub else looks_like(path, self._format(path))
            raise UserError(
                f"cannot read {path}{hint}: {reason(error)}" + (f"; {looks}" if looks else "")
            ) from error

    def checked(self, path: str, tell: Tell = lambda kind, note: None) -> Iterator[Row]:
        """As `read`, for a file of which at least half of the first rows can be read.

        Raises:
            UserError: as `read`, and where too few can be read, with what the file looks like.
        """
        rows = self.read(path, tell)
        head = list(itertools.islice(rows, FIRST))
        bad = [row for row in head if row.problem is not None]
        letters = sum(len(row.caption) for row in head)
        if sum(row.caption.count("\0") for row in head) > ZEROS * letters:
            raise UserError(f"{path} is no UTF-8: its captions hold zero bytes, as UTF-16 has them")
        if len(head) - len(bad) < FEW * len(head):
            looks = None
            if not path.startswith(HF_PREFIX):
                looks = looks_like(path, self._format(path))
            raise UserError(
                f"{len(bad):,} of the first {len(head):,} rows of {path} cannot be read "
                f"({bad[0].problem}): {looks or 'mend the file, or see --help captions'}"
            )
        yield from head
        yield from rows

    def _format(self, path: str) -> str | None:
        return self.format or format_of(path)


def _read_tsv(path: str, wanted: Wanted, tell: Tell) -> Iterator[Row]:
    with opened(path) as file:
        yield from read_tsv(file, path, wanted, tell)


def _read_webdataset(path: str, wanted: Wanted, tell: Tell) -> Iterator[Row]:
    with opened(path) as file:
        yield from read_webdataset(file, path, wanted)


def _read_jsonl(path: str, wanted: Wanted, tell: Tell) -> Iterator[Row]:
    told = False
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            line = (without_mark(line, path) if number == 1 else line).strip()
            if not line:
                continue
            fallback = f"{path}:{number}"
            rows = rows_of_json(line, wanted, fallback, f"line {number}")
            if not told and rows[0].key == fallback and rows[0].problem is None:
                told = True
                tell("key", no_key(path))
            yield from rows


def _read_parquet(path: str, wanted: Wanted, tell: Tell) -> Iterator[Row]:
    with opened(path) as packed, pq.ParquetFile(packed) as file:
        if not file.metadata.num_rows:
            return
        schema = file.schema_arrow
        twice = [name for name in schema.names if schema.names.count(name) > 1]
        usable = [field.name for field in schema if may_hold_keys(field.type)]
        caption, key = columns(schema.names, wanted, path, usable)
        if key is None:
            tell("key", no_key(path))
        for name in (caption, key):
            if name in twice:
                raise UserError(f"{path} has two columns '{name}': give one of them another name")
        kind = schema.field(caption).type
        is_text, number = holds_text(kind), 0
        for batch in file.iter_batches(columns=[caption] + ([key] if key else [])):
            texts, keys = _values(batch.column(caption)), [None] * len(batch)
            if not is_text and not all(map(is_null, texts)):
                raise not_text(caption, path, kind)
            if key is not None:
                keys = _values(batch.column(key))
            for this_key, text in zip(keys, texts, strict=True):
                number += 1
                if type(text) is str and type(this_key) is str and this_key:  # nearly always
                    yield Row(this_key, text)
                else:
                    fallback, where = f"{path}:{number}", f"row {number}"
                    yield from rows_of(this_key, text, caption, fallback, where)


def _read_hub(path: str, split: str, wanted: Wanted, tell: Tell) -> Iterator[Row]:
    """`hf:NAME` or `hf:NAME:CONFIG`, streamed; NAME may be a local folder."""
    import datasets

    name, _, config = path.removeprefix(HF_PREFIX).partition(":")
    try:
        with without_warnings():
            data = datasets.load_dataset(name, config or None, split=split, streaming=True)
            names = data.column_names or list(next(iter(data), {}))
    except Exception as error:  # the hub client raises dozens of types
        raise UserError(f"cannot open the Hugging Face data set {name}: {reason(error)}") from error
    features = data.features or {}
    usable = [each for each in names if _may_hold_keys(features.get(each), datasets)]
    images = [each for each in names if isinstance(features.get(each), datasets.Image)]
    caption, key = columns(names, wanted, path, usable)
    if key is None and images:  # the file's name, as in an `imagefolder`
        key = images[0]
        data = data.cast_column(key, datasets.Image(decode=False))
    if key is None:
        tell("key", no_key(path))
    feature = features.get(caption)
    is_text = not isinstance(feature, datasets.Value) or holds_text(feature.pa_type)
    data = data.select_columns([caption] + ([key] if key else []))  # never decodes the images
    for number, record in enumerate(data, start=1):
        if not is_text and not is_null(record[caption]):
            raise not_text(caption, path, feature.dtype)
        fallback, where = f"{path}:{number}", f"row {number}"
        this_key = record[key] if key else None
        if images and key == images[0]:
            this_key = _image_name(this_key, name)
        yield from rows_of(this_key, record[caption], caption, fallback, where)


def _may_hold_keys(feature: Any, datasets: Any) -> bool:
    if feature is None:
        return True
    return isinstance(feature, datasets.Value) and may_hold_keys(feature.pa_type)


def _image_name(image: Any, folder: str) -> str | None:
    """The image's path inside of its data set's folder, else its file name."""
    path = image.get("path") if isinstance(image, dict) else None
    if not path:
        return None
    inside = path.partition(f"{folder.rstrip('/')}/")[2]
    return inside or path.rpartition("/")[2]


def _values(column: pa.Array) -> list[Any]:
    """Python values; strings that are not UTF-8 stay bytes, so that only their rows are at fault."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(as_bytes(column.type)).to_pylist()


_READERS: dict[str | None, Callable[[str, Wanted, Tell], Iterator[Row]]] = {
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "jsonl": _read_jsonl,
    "webdataset": _read_webdataset,
}
