"""Tag folders: the shards of one or several runs of `parsing/run.py`, checked before they are read.

A run's folder has a manifest, one stats JSON per committed shard, and an index from image keys to
captions. A plain folder of tag Parquet files, or one such file, is accepted too: every caption is then
one image, and the caption's id is its key.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import UserError, reason
from common.storage import Folder
from labels.vocabulary import ATTRIBUTE, KINDS, OBJECT, check_columns, is_null
from parsing.job.run_folder import belongs
from parsing.source.captions import DONE, INDEX
from parsing.tags import TAGS

MANIFEST = "manifest.json"
CAPTIONS_FOLDER = "captions"
INDEX_FOLDER = "index"
COLUMNS = {OBJECT: "objects", ATTRIBUTE: "attributes"}
PIECE_ROWS = 250_000  # a row group of more than twice as many captions is read in pieces
_FOOTERS_AT_ONCE = 16
_PAIR = pl.Struct({"attribute": pl.String, "object": pl.String})
_KINDS = {"caption_id": pl.Int64, "objects": pl.List(pl.String), "attributes": pl.List(_PAIR)}


@dataclass(frozen=True)
class RowGroup:
    """One row group of a Parquet file of tags, or a piece of one: rows [offset, offset + rows).

    Attributes:
        path: the file.
        offset, rows: where the row group begins, and its number of captions.
        first_id, last_id: the smallest and the largest caption id in it.
        is_whole_file: the file has no other rows, so that none need to be skipped.
        columns: name and type of the columns that are read, as far as the file has them, and whether
            the type is null: all values are null, or all lists are empty.
    """

    path: str
    offset: int
    rows: int
    first_id: int
    last_id: int
    is_whole_file: bool
    columns: tuple[tuple[str, str, bool], ...] = ()


@dataclass(frozen=True)
class TagFolder:
    """The committed shards of one tag folder.

    Attributes:
        name: the folder as the user named it.
        row_groups: of the shards, in the order of the files.
        index: Parquet files of schema `INDEX` in the order of the images; empty without an index.
        storage: opens the index files.
        missing: number of shards that the run has not committed.
        has_status: the files have the column `status`.
    """

    name: str
    row_groups: tuple[RowGroup, ...]
    index: tuple[str, ...]
    storage: Folder
    missing: int
    has_status: bool

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.row_groups)


def open_tag_folders(
    names: Iterable[str], kinds: Iterable[str] = KINDS, partial: bool = False
) -> list[TagFolder]:
    """Finds the shards of every folder and checks their columns.

    Args:
        names: tag folders or single Parquet files; local paths or URLs.
        kinds: the kinds of tags that will be read; columns of other kinds may be absent.
        partial: accept a run that is unfinished, with the shards that it has committed.

    Raises:
        UserError: no such folder, no Parquet in it, a damaged file, a column that is missing or of a
            wrong type, an unfinished run where `partial` is false, or a file that is named twice.
    """
    folders = [_open(name, tuple(kinds), partial) for name in names]
    owners: dict[str, str] = {}
    for folder in folders:
        for path in dict.fromkeys(group.path for group in folder.row_groups):
            place = path if "://" in path else os.path.realpath(path)
            if place in owners:
                raise UserError(
                    f"{path} is read twice, for --tags {owners[place]} and --tags {folder.name}: name "
                    "each folder once"
                )
            owners[place] = folder.name
    return folders


def scan(row_groups: Iterable[RowGroup]) -> pl.LazyFrame:
    """A lazy query over the rows of some row groups, in their order."""
    alike = [list(groups) for _, groups in itertools.groupby(row_groups, lambda g: g.columns)]
    if len(alike) == 1 and not any(empty for *_, empty in alike[0][0].columns):
        return _scan_alike(alike[0])
    return pl.concat([_as_contract(_scan_alike(groups), groups[0]) for groups in alike])


def _scan_alike(row_groups: list[RowGroup]) -> pl.LazyFrame:
    if all(group.is_whole_file for group in row_groups):
        return _scan_files([group.path for group in row_groups])
    return pl.concat(_scan_files([g.path]).slice(g.offset, g.rows) for g in row_groups)


def _as_contract(rows: pl.LazyFrame, group: RowGroup) -> pl.LazyFrame:
    """The columns that are read, in the contract's types: files of one folder may differ in theirs."""
    columns = []
    for name, _, empty in group.columns:
        kind = _KINDS.get(name, pl.String)
        if empty:
            found = pl.lit([] if name in COLUMNS.values() else None, dtype=kind)
        elif name == COLUMNS[ATTRIBUTE]:  # a cast would take the fields by their order
            parts = {each: pl.element().struct.field(each) for each in ("attribute", "object")}
            found = pl.col(name).list.eval(pl.struct(**parts)).cast(kind)
        else:
            found = pl.col(name).cast(kind)
        columns.append(found.alias(name))
    return rows.select(columns)


def _scan_files(paths: list[str]) -> pl.LazyFrame:
    # `_find` checks the columns that are read in every file; shards may differ in all others.
    return pl.scan_parquet(paths, glob=False, missing_columns="insert", extra_columns="ignore")


def _open(name: str, kinds: tuple[str, ...], partial: bool) -> TagFolder:
    storage = Folder(name)
    if not storage.fs.exists(storage.root):
        raise UserError(
            f"there is no tags folder {name}: parsing/run.py makes one, --tags names another"
        )
    if storage.fs.isfile(storage.root):
        return _find(name, [name], (), storage, kinds)
    names = storage.names(".parquet")
    total = _number_of_shards(storage)
    run, images, missing = None, None, 0
    if total is not None:
        committed = {stats.removesuffix(".json") for stats in storage.names(".json")}
        names = [
            n for n in names if n.startswith("part-") and n.removesuffix(".parquet") in committed
        ]
        missing = max(total - len(names), 0)
        if missing and not partial:
            raise UserError(
                f"the run in {name} is unfinished: {missing} of its {total} shards are missing; finish it "
                "with parsing/run.py, or use the committed shards with --partial"
            )
        images = _number_of_images(storage)
        run = storage.read_json(MANIFEST).get("id") if storage.exists(MANIFEST) else None
    if not names:
        kind = "committed shard" if total else "Parquet file"
        raise UserError(f"there is no {kind} in the tags folder {name}")
    index = storage.sub(INDEX_FOLDER)
    index_files = tuple(_address(index, n) for n in index.names(".parquet"))
    shards = [_address(storage, n) for n in names]
    return _find(name, shards, index_files, storage, kinds, missing, run, images)


def same_captions(folders: Sequence[TagFolder]) -> tuple[str, str] | None:
    """Names of two folders whose runs read the same captions, so that each image is in both."""
    owners: dict[str, str] = {}
    for tags in folders:
        captions = tags.storage.sub(CAPTIONS_FOLDER)
        if not tags.storage.fs.isdir(tags.storage.root) or not captions.exists(DONE):
            continue
        selection = captions.read_json(DONE).get("selection")
        if selection is None:
            continue
        read = json.dumps({n: v for n, v in selection.items() if n != "shard_size"}, sort_keys=True)
        if (first := owners.setdefault(read, tags.name)) != tags.name:
            return first, tags.name
    return None


def manifest_of(tags: TagFolder) -> dict[str, Any]:
    """The manifest of the run, or of the import, that made a folder; empty where there is none."""
    if not tags.storage.fs.isdir(tags.storage.root) or not tags.storage.exists(MANIFEST):
        return {}
    manifest = tags.storage.read_json(MANIFEST)
    return manifest if isinstance(manifest, dict) else {}


def _number_of_images(storage: Folder) -> int | None:
    """The number of images of the run; None where neither its pass nor its manifest tells."""
    captions = storage.sub(CAPTIONS_FOLDER)
    counts = captions.read_json(DONE)["counts"] if captions.exists(DONE) else {}
    found = counts.get("images")
    if found is None and storage.exists(MANIFEST):
        found = storage.read_json(MANIFEST).get("images")
    return found if isinstance(found, int) else None


def _number_of_shards(storage: Folder) -> int | None:
    """The total number of shards of the run; None for a folder that `parsing/run.py` did not write."""
    try:
        captions = storage.sub(CAPTIONS_FOLDER)
        if captions.exists(DONE):
            return int(captions.read_json(DONE)["counts"]["shards"])
        if storage.exists(MANIFEST):
            return int(storage.read_json(MANIFEST)["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the run in {storage.url} has not got far enough to say how many shards it has"
        ) from error
    if storage.sub(CAPTIONS_FOLDER).names(".parquet"):
        raise UserError(
            f"the run in {storage.url} is unfinished: it has not read all its captions yet"
        )
    return None


def _address(storage: Folder, name: str) -> str:
    return storage.path(name) if storage.is_local else f"{storage.url.rstrip('/')}/{name}"


def _find(
    name: str,
    shards: list[str],
    index: tuple[str, ...],
    storage: Folder,
    kinds: tuple[str, ...],
    missing: int = 0,
    run: str | None = None,
    images: int | None = None,
) -> TagFolder:
    """Reads the footer of every file once.

    Args:
        run: `id` in the manifest of the run that wrote the shards; None where it has none.
        images: number of images that the index must have; None where that is not known.
    """
    wanted = [TAGS.field("caption_id"), TAGS.field("caption")]
    wanted += [TAGS.field(COLUMNS[kind]) for kind in kinds]
    schema = pa.schema(wanted)
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        found = list(pool.map(lambda path: _row_groups(storage, path, schema, run), shards))
        footers = list(pool.map(lambda path: _read_footer(storage, path), index))
    for path, footer in zip(index, footers, strict=True):
        check_columns(footer.schema.to_arrow_schema(), INDEX, path)
    indexed = sum(footer.num_rows for footer in footers)
    if images is not None and indexed != images:
        raise UserError(
            f"the index of the run in {name} has {indexed:,} of its {images:,} images: its parsing/run.py "
            "command writes the index again"
        )
    row_groups = tuple(group for groups, _ in found for group in groups)
    has_status = all(status for _, status in found)
    return TagFolder(name, row_groups, index, storage, missing, has_status)


def open_file(storage: Folder, path: str):
    """Opens one of the folder's files for reading."""
    return storage.fs.open(storage.fs._strip_protocol(path), "rb")


def _read_footer(storage: Folder, path: str) -> pq.FileMetaData:
    try:
        with open_file(storage, path) as file:
            return pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {path} (damaged or cut off?): {reason(error)}") from error


def _check_place(footer: pq.FileMetaData, path: str, run: str) -> None:
    """Raises UserError for a shard of another run, or of another number than its name's."""
    number = path.rpartition("/")[2].removeprefix("part-").removesuffix(".parquet")
    if number.isdecimal() and not belongs(footer, run, int(number)):
        raise UserError(
            f"{path} is another run's, or another shard: the command of its run parses it again"
        )


def _row_groups(
    storage: Folder, path: str, schema: pa.Schema, run: str | None
) -> tuple[list[RowGroup], bool]:
    """The row groups of one file, and whether it has the column `status`."""
    footer = _read_footer(storage, path)
    if run is not None:
        _check_place(footer, path, run)
    columns = footer.schema.to_arrow_schema()
    check_columns(columns, schema, path, null_types=True)
    names = [name for name in (*schema.names, "status") if name in columns.names]
    fields = [columns.field(name) for name in dict.fromkeys(names)]
    kinds = tuple((field.name, str(field.type), is_null(field.type)) for field in fields)
    id_column = footer.schema.names.index("caption_id")
    row_groups, offset = [], 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for rows, first, last in _pieces(storage, path, number, group, id_column):
            is_whole_file = rows == footer.num_rows
            row_groups.append(RowGroup(path, offset, rows, first, last, is_whole_file, kinds))
            offset += rows
    return row_groups, "status" in columns.names


def _pieces(
    storage: Folder, path: str, number: int, group: pq.RowGroupMetaData, id_column: int
) -> Iterator[tuple[int, int, int]]:
    """(rows, smallest id, largest id) of a row group, or of each piece of a large one.

    Raises:
        UserError: an id is null.
    """
    statistics = group.column(id_column).statistics if group.num_rows else None
    known = statistics is not None and statistics.has_min_max and statistics.has_null_count
    if known and group.num_rows <= 2 * PIECE_ROWS:
        found = [(group.num_rows, statistics.min, statistics.max, statistics.null_count)]
    else:
        found = _read_pieces(storage, path, number)
    for rows, first, last, nulls in found:
        if nulls:
            raise UserError(f"column 'caption_id' of {path} holds nulls")
        yield rows, first, last


def _read_pieces(storage: Folder, path: str, group: int) -> Iterator[tuple[int, int, int, int]]:
    """(rows, smallest id, largest id, nulls) of the pieces of a row group."""
    try:
        with open_file(storage, path) as file:
            batches = pq.ParquetFile(file).iter_batches(
                PIECE_ROWS, row_groups=[group], columns=["caption_id"]
            )
            for batch in batches:
                ids = batch.column(0)
                bounds = pc.min_max(ids)
                yield len(ids), bounds["min"].as_py(), bounds["max"].as_py(), ids.null_count
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {path} (damaged or cut off?): {reason(error)}") from error
