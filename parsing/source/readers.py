"""Caption readers: TSV, Parquet, JSONL, webdataset tars and Hugging Face data sets, as a stream.

Every reader yields `Row`s in the order of its input and holds little of it: a line, a sample and
the names of those before it in the same tar, a Parquet file's row group as it is compressed. A row
that cannot be read is still a row: it says what is wrong with it in `problem`. A file that cannot
be read at all raises `UserError`.
"""

from __future__ import annotations

import codecs
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, reason
from common.flags import setting
from common.quiet import without_warnings
from parsing.source.files import FORMATS, file_size, find_files, format_of, opened

HF_PREFIX = "hf:"
CAPTION_COLUMNS = ("caption", "text", "TEXT", "txt", "CAPTION", "alt_text")
KEY_COLUMNS = ("key", "__key__", "url", "URL", "image_url", "image_id", "id")


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
class Source:
    """Where captions come from: files of one or several kinds, or a Hugging Face data set."""

    paths: tuple[str, ...] = setting(
        ("data/captions",),
        "files, folders, globs, URLs of fsspec (s3://...), or hf:NAME[:CONFIG]; default data/captions",
        flag="--captions",
        metavar="PATH",
        action="extend",
    )
    format: str | None = setting(
        None,
        "where the file's ending does not tell; tsv is CC12M's own url<TAB>caption",
        choices=sorted(FORMATS),
    )
    caption_column: str | None = setting(
        None,
        "Parquet, JSONL, webdataset .json, data sets: default is the first usual name (caption, text, "
        "TEXT ...)",
        metavar="NAME",
    )
    key_column: str | None = setting(
        None, "the image's key: default likewise (key, url ...)", metavar="NAME"
    )
    split: str = setting("train", "of a Hugging Face data set")

    def files(self) -> list[str]:
        """Every input, globs and folders expanded, in the order given and sorted within each.

        Raises:
            UserError: as `parsing.source.files.find_files`.
        """
        found: list[str] = []
        for path in self.paths:
            found += [path] if path.startswith(HF_PREFIX) else find_files(path, self.format)
        return found

    def identity(self) -> dict[str, Any]:
        """What tells this input from another one: the files' names and sizes, and how they are read.

        Folders are no part of it: data that was moved, or is named from elsewhere, is the same.
        """
        settings = {name: value for name, value in asdict(self).items() if name != "paths"}
        return {"files": [_name_and_size(path) for path in self.files()], **settings}

    def rows(self) -> Iterator[Row]:
        """Streams the rows of every file, one file after the other.

        Raises:
            UserError: a missing, truncated or unreadable file, or a missing column.
        """
        for path in self.files():
            hub = path.startswith(HF_PREFIX)
            reader = _read_hub if hub else _READERS[self.format or format_of(path)]
            try:
                yield from reader(path, self)
            except UserError:
                raise
            except Exception as error:  # each codec, file system and network raises its own
                hint = "" if hub else " (damaged, cut off or another format?)"
                raise UserError(f"cannot read {path}{hint}: {reason(error)}") from error


def _name_and_size(path: str) -> list[str | int | None]:
    if not path.startswith(HF_PREFIX):
        return [path.rpartition("/")[2], file_size(path)]
    name, colon, config = path.removeprefix(HF_PREFIX).partition(":")
    name = Path(name).resolve().name if Path(name).is_dir() else name
    return [f"{HF_PREFIX}{name}{colon}{config}", None]


def _read_tsv(path: str, source: Source) -> Iterator[Row]:
    """CC12M's own layout: `url<TAB>caption`, no header, no quoting; empty lines are no rows."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            line = line.rstrip(b"\r\n")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line:
                continue
            text, problem = _decode(line, f"line {number}: not UTF-8")
            cells = text.split("\t")
            if len(cells) != 2:
                plural = "column" if len(cells) == 1 else "columns"
                problem = f"line {number}: {len(cells)} {plural} instead of url<TAB>caption"
            yield Row(cells[0] or f"{path}:{number}", "\t".join(cells[1:]), problem)


def _read_jsonl(path: str, source: Source) -> Iterator[Row]:
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line := line.strip():
                yield _from_json(line, source, f"{path}:{number}", f"line {number}")


def _read_parquet(path: str, source: Source) -> Iterator[Row]:
    with opened(path) as packed, pq.ParquetFile(packed) as file:
        schema = file.schema_arrow
        caption, key = _columns(schema.names, source, path)
        if not _is_text(schema.field(caption).type):
            raise _not_text(caption, path, schema.field(caption).type)
        number = 0
        for batch in file.iter_batches(columns=[caption] + ([key] if key else [])):
            texts, keys = _values(batch.column(caption)), [None] * len(batch)
            if key is not None:
                keys = _values(batch.column(key))
            for this_key, text in zip(keys, texts, strict=True):
                number += 1
                if type(text) is str and type(this_key) is str:  # nearly always, and twice as fast
                    yield Row(this_key, text)
                else:
                    yield _from_values(this_key, text, caption, f"{path}:{number}", f"row {number}")


def _read_webdataset(path: str, source: Source) -> Iterator[Row]:
    """Of a sample's files, `.txt` is the caption, else a `.json` holds it.

    The two stand together, as the format demands. Its images may stand elsewhere: a tar packed
    without care for that has all its images first, or all its texts.
    """
    with opened(path) as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as tar:
        told: set[str] = set()
        silent: dict[str, None] = {}
        for key, texts in _samples(tar):
            if texts:
                told.add(key)
                yield _from_sample(key, texts, source)
            else:
                silent[key] = None
        for key in silent:
            if key not in told:
                yield Row(key, "", "no .txt and no .json beside the image")


class _Member(tarfile.TarInfo):
    """Says of a damaged header that it is damaged; tarfile takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:
            raise tarfile.ReadError(str(error)) from error


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Neighbours of one key, the name up to the first dot, and the texts among them by ending."""
    current: str | None = None
    texts: dict[str, bytes] = {}
    while (member := tar.next()) is not None:
        tar.members.clear()  # else it keeps every member it has seen
        if not member.isfile():
            continue
        folder, slash, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        key = f"{folder}{slash}{stem}"
        if key != current and current is not None:
            yield current, texts
            texts = {}
        current = key
        if ending in ("txt", "json"):
            texts[ending] = tar.extractfile(member).read()
    if current is not None:
        yield current, texts


def _from_sample(key: str, texts: dict[str, bytes], source: Source) -> Row:
    if "txt" in texts and source.caption_column is None:
        return Row(key, *_decode(texts["txt"].strip(b"\r\n"), "its .txt is not UTF-8"))
    if "json" in texts:
        return _from_json(texts["json"], source, key, "its .json")._replace(key=key)
    return Row(key, "", f"no .json beside it that could hold the field {source.caption_column}")


def _read_hub(path: str, source: Source) -> Iterator[Row]:
    """`hf:NAME` or `hf:NAME:CONFIG`, streamed; NAME may be a local folder."""
    import datasets

    name, _, config = path.removeprefix(HF_PREFIX).partition(":")
    try:
        with without_warnings():
            data = datasets.load_dataset(name, config or None, split=source.split, streaming=True)
            names = data.column_names or list(next(iter(data), {}))
    except Exception as error:  # the hub client raises dozens of types
        raise UserError(f"cannot open the Hugging Face data set {name}: {reason(error)}") from error
    caption, key = _columns(names, source, path)
    feature = (data.features or {}).get(caption)
    if isinstance(feature, datasets.Value) and not _is_text(feature.pa_type):
        raise _not_text(caption, path, feature.dtype)
    data = data.select_columns([caption] + ([key] if key else []))  # never decodes the images
    for number, record in enumerate(data, start=1):
        this_key = record[key] if key else None
        yield _from_values(this_key, record[caption], caption, f"{path}:{number}", f"row {number}")


def _from_json(line: bytes, source: Source, fallback: str, where: str) -> Row:
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        return Row(fallback, line.decode("utf-8", "replace"), f"{where}: not UTF-8")
    except (ValueError, RecursionError):
        return Row(fallback, line.decode("utf-8", "replace"), f"{where}: not JSON")
    if not isinstance(record, dict):
        return Row(fallback, line.decode("utf-8", "replace"), f"{where}: not a JSON object")
    names = (source.caption_column,) if source.caption_column else CAPTION_COLUMNS
    keys = (source.key_column,) if source.key_column else KEY_COLUMNS
    key = next((record[name] for name in keys if record.get(name) is not None), None)
    found = next((name for name in names if name in record), None)
    if found is None:
        row = _from_values(key, "", "", fallback, where)
        return row._replace(problem=f"{where}: no field {' or '.join(names)}")
    return _from_values(key, record[found], found, fallback, where)


def _from_values(key: Any, caption: Any, name: str, fallback: str, where: str) -> Row:
    """A row of what a record holds, of whatever type that is."""
    key = fallback if key is None else _as_text(key)
    if caption is None:
        return Row(key, "")
    if isinstance(caption, bytes):
        return Row(key, *_decode(caption, f"{where}: not UTF-8"))
    problem = None if isinstance(caption, str) else f"{where}: the field {name} is not text"
    return Row(key, _as_text(caption), problem)


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    text = str(value)
    # JSON can hold half a surrogate pair, which no file can: it becomes a question mark.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _decode(data: bytes, problem: str) -> tuple[str, str | None]:
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace"), problem


def _values(column: pa.Array) -> list[Any]:
    """Python values; strings that are not UTF-8 stay bytes, so that only their rows are at fault."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [value.as_py() for value in column.cast(pa.large_binary())]


def _columns(names: Iterable[str], source: Source, path: str) -> tuple[str, str | None]:
    """The columns of captions and of keys; a key may be missing.

    Raises:
        UserError: a column that was asked for is not there, or none that usually holds captions.
    """
    has = f"it has {', '.join(names)}"
    chosen = {"--caption-column": source.caption_column, "--key-column": source.key_column}
    for flag, name in chosen.items():
        if name is not None and name not in names:
            raise UserError(f"{path} has no column '{name}' ({has}): see {flag}")
    usual = next((name for name in CAPTION_COLUMNS if name in names), None)
    caption = source.caption_column or usual
    if caption is None:
        raise UserError(f"no usual caption column in {path} ({has}): give --caption-column")
    key = source.key_column or next((name for name in KEY_COLUMNS if name in names), None)
    return caption, key


def _not_text(column: str, path: str, kind: Any) -> UserError:
    return UserError(
        f"column '{column}' of {path} holds {kind}, not text: name another with --caption-column"
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


_READERS: dict[str, Callable[[str, Source], Iterator[Row]]] = {
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "jsonl": _read_jsonl,
    "webdataset": _read_webdataset,
}
