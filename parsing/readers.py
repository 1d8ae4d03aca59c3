"""Caption readers: TSV, Parquet, JSONL, webdataset tars and Hugging Face data sets, as a stream.

Every reader yields `Row`s in the order of its input and holds no more than a batch of it. A row
that cannot be read is still a row: it says what is wrong with it in `problem`. A file that
cannot be read at all raises `UserError`.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from parsing.errors import UserError

HF_PREFIX = "hf:"
CAPTION_COLUMNS = ("caption", "text", "TEXT", "txt", "CAPTION", "alt_text")
KEY_COLUMNS = ("key", "__key__", "url", "URL", "image_url", "image_id", "id")
FORMATS = {
    "tsv": (".tsv", ".txt"),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson"),
    "webdataset": (".tar",),
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")


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
    """Where captions come from.

    Attributes:
        paths: local paths, globs, folders, fsspec URLs, or `hf:NAME` for a Hugging Face data set.
        format: one of `FORMATS`, or None to go by the file's ending.
        caption_column, key_column: column names; None takes the first usual name that is there.
        split: the split of a Hugging Face data set.
    """

    paths: tuple[str, ...]
    format: str | None = None
    caption_column: str | None = None
    key_column: str | None = None
    split: str = "train"

    def files(self) -> list[str]:
        """Every input, globs and folders expanded, in the order given and sorted within each.

        Raises:
            UserError: a path with nothing there.
        """
        found: list[str] = []
        for path in self.paths:
            found += [path] if path.startswith(HF_PREFIX) else _expand(path, self.format)
        return found

    def identity(self) -> list[dict[str, Any]]:
        """What tells this input from another one: names, sizes, and the columns that are read."""
        columns = {"caption": self.caption_column, "key": self.key_column}
        return [{"path": path, "size": _size(path), **columns} for path in self.files()]

    def rows(self) -> Iterator[Row]:
        """Streams the rows of every file, one file after the other.

        Raises:
            UserError: a missing, truncated or unreadable file, or a missing column.
        """
        for path in self.files():
            if path.startswith(HF_PREFIX):
                yield from _read_hub(path, self)
                continue
            reader = _READERS[self.format or _format_of(path)]
            try:
                yield from reader(path, self)
            except (pa.ArrowException, tarfile.TarError, EOFError, OSError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise UserError(
                    f"cannot read {path} (damaged, cut off or another format?): {reason}"
                ) from error


def _expand(path: str, format: str | None) -> list[str]:
    endings = tuple(e for f, es in FORMATS.items() if format in (None, f) for e in es)
    try:
        fs, root = fsspec.core.url_to_fs(path)
        has_magic = any(c in root for c in "*?[") and not fs.exists(root)
        if has_magic:
            found = sorted(fs.glob(root))
        elif fs.isdir(root):
            found = sorted(p for p in fs.ls(root, detail=False) if _bare(p).endswith(endings))
        else:
            found = [root] if fs.exists(root) else []
    except UserError:
        raise
    except Exception as error:  # each file system and its network raise their own
        raise UserError(f"cannot reach {path}: {error or type(error).__name__}") from error
    if not found:
        what = "no file matches" if has_magic else "there are no captions at"
        raise UserError(f"{what} {path}")
    return [str(fs.unstrip_protocol(p)) if "://" in path else str(p) for p in found]


def _bare(path: str) -> str:
    for ending in COMPRESSED:
        path = path.removesuffix(ending)
    return path.split("?")[0]


def _format_of(path: str) -> str:
    for name, endings in FORMATS.items():
        if _bare(path).endswith(endings):
            return name
    raise UserError(
        f"cannot tell the format of {path} from its name: give --format ({', '.join(FORMATS)})"
    )


def _size(path: str) -> int | None:
    if path.startswith(HF_PREFIX):
        return None
    fs, root = fsspec.core.url_to_fs(path)
    return fs.info(root).get("size")


def _open(path: str) -> BinaryIO:
    compression = "infer" if path.endswith(COMPRESSED) else None
    return fsspec.open(path, "rb", compression=compression).open()


def _read_tsv(path: str, source: Source) -> Iterator[Row]:
    """CC12M's own layout: `url<TAB>caption`, no header, no quoting."""
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            line = line.rstrip(b"\r\n")
            try:
                text, problem = line.decode("utf-8"), None
            except UnicodeDecodeError:
                text, problem = line.decode("utf-8", "replace"), f"line {number}: not UTF-8"
            cells = text.split("\t")
            if len(cells) == 2:
                yield Row(cells[0], cells[1], problem)
            else:
                plural = "column" if len(cells) == 1 else "columns"
                problem = f"line {number}: {len(cells)} {plural} instead of url<TAB>caption"
                yield Row(cells[0] or f"{path}:{number}", "\t".join(cells[1:]), problem)


def _read_jsonl(path: str, source: Source) -> Iterator[Row]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            fallback = f"{path}:{number}"
            try:
                record = json.loads(line)
            except UnicodeDecodeError:
                yield Row(
                    fallback, line.decode("utf-8", "replace").strip(), f"line {number}: not UTF-8"
                )
                continue
            except ValueError:
                yield Row(
                    fallback, line.decode("utf-8", "replace").strip(), f"line {number}: not JSON"
                )
                continue
            if not isinstance(record, dict):
                yield Row(fallback, line.decode().strip(), f"line {number}: not a JSON object")
                continue
            yield _from_record(record, source, fallback, f"line {number}")


def _read_parquet(path: str, source: Source) -> Iterator[Row]:
    with _open(path) as opened, pq.ParquetFile(opened) as file:
        names = file.schema_arrow.names
        caption = _column(names, source.caption_column, CAPTION_COLUMNS, path, "--caption-column")
        key = _column(names, source.key_column, KEY_COLUMNS, path, "--key-column", optional=True)
        if not _is_text(file.schema_arrow.field(caption).type):
            raise UserError(
                f"column '{caption}' of {path} holds {file.schema_arrow.field(caption).type}, "
                "not text: name another with --caption-column"
            )
        number = 0
        for batch in file.iter_batches(columns=[caption] + ([key] if key else [])):
            captions = batch.column(caption).to_pylist()
            keys = batch.column(key).to_pylist() if key else [None] * len(captions)
            for this_key, text in zip(keys, captions, strict=True):
                number += 1
                name = f"{path}:{number}" if this_key is None else str(this_key)
                yield Row(name, text or "")


def _read_webdataset(path: str, source: Source) -> Iterator[Row]:
    """Members of one sample stand together: `.txt` is the caption, else a `.json` holds it."""
    with _open(path) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        current: str | None = None
        texts: dict[str, bytes] = {}
        for member in tar:
            if not member.isfile():
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            sample = f"{folder}/{stem}" if folder else stem
            if sample != current and current is not None:
                yield _from_sample(current, texts, source)
                texts = {}
            current = sample
            if ending in ("txt", "json"):
                texts[ending] = tar.extractfile(member).read()
        if current is not None:
            yield _from_sample(current, texts, source)


def _from_sample(key: str, texts: dict[str, bytes], source: Source) -> Row:
    try:
        if "txt" in texts and source.caption_column is None:
            return Row(key, texts["txt"].decode("utf-8").strip("\r\n"))
        if "json" in texts:
            record = json.loads(texts["json"])
            if isinstance(record, dict):
                return _from_record(record, source, key, "its .json")._replace(key=key)
    except UnicodeDecodeError:
        return Row(key, b" ".join(texts.values()).decode("utf-8", "replace"), "not UTF-8")
    except ValueError:
        return Row(key, texts["json"].decode("utf-8", "replace"), "its .json is not JSON")
    return Row(key, "", "no .txt and no .json beside the image")


def _read_hub(path: str, source: Source) -> Iterator[Row]:
    """`hf:NAME` or `hf:NAME:CONFIG`, streamed; NAME may be a local folder."""
    import datasets

    name, _, config = path.removeprefix(HF_PREFIX).partition(":")
    try:
        data = datasets.load_dataset(name, config or None, split=source.split, streaming=True)
        names = data.column_names or list(next(iter(data), {}))
    except Exception as error:  # the hub client raises dozens of types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot open the Hugging Face data set {name}: {reason}") from error
    caption = _column(names, source.caption_column, CAPTION_COLUMNS, path, "--caption-column")
    key = _column(names, source.key_column, KEY_COLUMNS, path, "--key-column", optional=True)
    data = data.select_columns([caption] + ([key] if key else []))  # never decodes the images
    for number, record in enumerate(data, start=1):
        text = record[caption]
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        this_key = record[key] if key else None
        yield Row(f"{path}:{number}" if this_key is None else str(this_key), text or "")


def _from_record(record: dict[str, Any], source: Source, fallback: str, where: str) -> Row:
    names = (source.caption_column,) if source.caption_column else CAPTION_COLUMNS
    keys = (source.key_column,) if source.key_column else KEY_COLUMNS
    key = next((_clean(str(record[k])) for k in keys if record.get(k) is not None), fallback)
    found = next((n for n in names if n in record), None)
    if found is None:
        return Row(key, "", f"{where}: no field {' or '.join(names)}")
    text = record[found]
    if text is None:
        return Row(key, "")
    if not isinstance(text, str):
        return Row(key, _clean(str(text)), f"{where}: the field {found} is not text")
    return Row(key, _clean(text))


def _clean(text: str) -> str:
    """JSON can hold half a surrogate pair, which no file can: it becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _column(
    names: list[str],
    wanted: str | None,
    usual: tuple[str, ...],
    path: str,
    flag: str,
    optional: bool = False,
) -> str | None:
    if wanted is not None:
        if wanted in names:
            return wanted
        raise UserError(f"{path} has no column '{wanted}' (it has {', '.join(names)}): see {flag}")
    found = next((name for name in usual if name in names), None)
    if found is None and not optional:
        raise UserError(
            f"no usual caption column in {path} (it has {', '.join(names)}): give {flag}"
        )
    return found


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


_READERS: dict[str, Callable[[str, Source], Iterator[Row]]] = {
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "jsonl": _read_jsonl,
    "webdataset": _read_webdataset,
}
