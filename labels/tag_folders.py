"""Tags folders: the shards of one or several runs, checked before anything is computed.

A run of `parsing/run.py` has a manifest, one stats JSON per committed shard and an index from image
keys to captions. A bare folder of tag Parquet files, or one such file, is taken too: then each caption
stands for one image, and its id is the key.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labels.vocabulary import ATTRIBUTE, KINDS, OBJECT, check_columns
from parsing.captions import DONE, INDEX
from parsing.errors import UserError
from parsing.storage import Folder
from parsing.tags import TAGS

MANIFEST = "manifest.json"
CAPTIONS_FOLDER = "captions"
INDEX_FOLDER = "index"
COLUMNS = {OBJECT: "objects", ATTRIBUTE: "attributes"}
_FOOTERS_AT_ONCE = 16


@dataclass(frozen=True)
class Piece:
    """Rows [offset, offset + rows) of a Parquet file of tags, with the caption ids they span.

    Attributes:
        whole: the piece is the whole file, so that no rows need to be skipped.
    """

    path: str
    offset: int
    rows: int
    first_id: int
    last_id: int
    whole: bool


@dataclass(frozen=True)
class Run:
    """The committed shards of one tags folder.

    Attributes:
        name: the folder as it was given.
        pieces: row groups of the shards, in the order of the files.
        index: Parquet files of schema `INDEX` in the order of the images; empty where there are none.
        folder: opens the index files.
        missing: shards of the run that are not committed.
        has_status: the files have the column `status`.
    """

    name: str
    pieces: tuple[Piece, ...]
    index: tuple[str, ...]
    folder: Folder
    missing: int
    has_status: bool

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


def open_runs(
    names: Iterable[str], kinds: Iterable[str] = KINDS, partial: bool = False
) -> list[Run]:
    """Finds the shards of every folder and checks their columns.

    Args:
        names: tags folders or single Parquet files; local paths or URLs.
        kinds: the kinds of tags that will be read; columns of other kinds need not be there.
        partial: take an unfinished run as far as it has come.

    Raises:
        UserError: no such folder, no Parquet in it, a damaged file, a column that is missing or of a
            wrong type, or an unfinished run where `partial` is false.
    """
    return [_open_run(name, tuple(kinds), partial) for name in names]


def scan(pieces: Iterable[Piece]) -> pl.LazyFrame:
    """A lazy query over the rows of some pieces, in their order."""
    pieces = list(pieces)
    if all(piece.whole for piece in pieces):
        return _scan_files([piece.path for piece in pieces])
    return pl.concat(_scan_files([p.path]).slice(p.offset, p.rows) for p in pieces)


def _scan_files(paths: list[str]) -> pl.LazyFrame:
    # The columns that are used were checked file by file; others may come and go.
    return pl.scan_parquet(paths, glob=False, missing_columns="insert", extra_columns="ignore")


def _open_run(name: str, kinds: tuple[str, ...], partial: bool) -> Run:
    folder = Folder(name)
    if not folder.fs.exists(folder.root):
        raise UserError(
            f"there is no tags folder {name}: parsing/run.py makes one, --tags names another"
        )
    if folder.fs.isfile(folder.root):
        return _run(name, [name], (), folder, 0, kinds)
    names = folder.names(".parquet")
    total = _shards_of_run(folder)
    missing = 0
    if total is not None:
        committed = {stats.removesuffix(".json") for stats in folder.names(".json")}
        names = [
            n for n in names if n.startswith("part-") and n.removesuffix(".parquet") in committed
        ]
        missing = max(total - len(names), 0)
        if missing and not partial:
            raise UserError(
                f"the run in {name} is unfinished: {missing} of its {total} shards are missing; finish it "
                "with parsing/run.py, or take what is there with --partial"
            )
    if not names:
        kind = "committed shard" if total else "Parquet file"
        raise UserError(f"there is no {kind} in the tags folder {name}")
    index = folder.sub(INDEX_FOLDER)
    index_files = tuple(_address(index, n) for n in index.names(".parquet"))
    return _run(name, [_address(folder, n) for n in names], index_files, folder, missing, kinds)


def _shards_of_run(folder: Folder) -> int | None:
    """How many shards the run has in total; None for a folder that no run has written."""
    try:
        captions = folder.sub(CAPTIONS_FOLDER)
        if captions.exists(DONE):
            return int(captions.read_json(DONE)["counts"]["shards"])
        if folder.exists(MANIFEST):
            return int(folder.read_json(MANIFEST)["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the run in {folder.url} has not got far enough to say how many shards it has"
        ) from error
    if folder.sub(CAPTIONS_FOLDER).names(".parquet"):
        raise UserError(
            f"the run in {folder.url} is unfinished: it has not read all its captions yet"
        )
    return None


def _address(folder: Folder, name: str) -> str:
    return folder.path(name) if folder.is_local else f"{folder.url.rstrip('/')}/{name}"


def _run(
    name: str,
    paths: list[str],
    index: tuple[str, ...],
    folder: Folder,
    missing: int,
    kinds: tuple[str, ...],
) -> Run:
    wanted = [TAGS.field("caption_id"), TAGS.field("caption")]
    wanted += [TAGS.field(COLUMNS[kind]) for kind in kinds]
    schema = pa.schema(wanted)
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        found = list(pool.map(lambda path: _pieces(folder, path, schema), paths))
        for path, footer in zip(
            index, pool.map(lambda p: footer_of(folder, p), index), strict=True
        ):
            check_columns(footer.schema.to_arrow_schema(), INDEX, path)
    pieces = tuple(piece for these, _ in found for piece in these)
    return Run(name, pieces, index, folder, missing, all(status for _, status in found))


def footer_of(folder: Folder, path: str) -> pq.FileMetaData:
    """The footer of a Parquet file; `UserError` where it is not one or cut off."""
    try:
        with open_file(folder, path) as file:
            return pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot read {path} (damaged or cut off?): {reason}") from error


def open_file(folder: Folder, path: str):
    """Opens one of the folder's files for reading."""
    return folder.fs.open(folder.fs._strip_protocol(path), "rb")


def _pieces(folder: Folder, path: str, schema: pa.Schema) -> tuple[list[Piece], bool]:
    footer = footer_of(folder, path)
    found = footer.schema.to_arrow_schema()
    check_columns(found, schema, path)
    column = footer.schema.names.index("caption_id")
    pieces, offset = [], 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        if group.num_rows:
            statistics = group.column(column).statistics
            if statistics is not None and statistics.has_min_max and statistics.has_null_count:
                first, last, nulls = statistics.min, statistics.max, statistics.null_count
            else:
                first, last, nulls = _measure(folder, path, number)
            if nulls:
                raise UserError(f"column 'caption_id' of {path} holds nulls")
            whole = group.num_rows == footer.num_rows
            pieces.append(Piece(path, offset, group.num_rows, first, last, whole))
        offset += group.num_rows
    return pieces, "status" in found.names


def _measure(folder: Folder, path: str, group: int) -> tuple[int, int, int]:
    """For files whose writer left no statistics."""
    with open_file(folder, path) as file:
        ids = pq.ParquetFile(file).read_row_group(group, columns=["caption_id"]).column(0)
    bounds = pc.min_max(ids)
    return bounds["min"].as_py(), bounds["max"].as_py(), ids.null_count
