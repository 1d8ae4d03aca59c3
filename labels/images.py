"""Joins labelled captions with images, in the order of the images' shards and in bounded memory.

Captions arrive in batches, in the order of their ids, each batch once. The index names captions in the
order of their first appearance, so nearly every image finds its caption in the current batch. For an
image with a repeated caption the batch has passed already. Such images are known from one pass over the
index: when the batch arrives, the rows they need are set aside, on disk beyond a fixed number of rows.
The time is linear in the number of rows. The memory is that of one batch, plus 16 bytes for every image
with a repeated caption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, reason
from labels.spill import Spill
from labels.tag_folders import RowGroup, TagFolder, open_file

BATCH_ROWS = 250_000
_INDEX_ROWS = 131_072
_LATE = pa.schema(
    [
        ("position", pa.int64()),
        ("caption", pa.large_string()),
        ("tag_ids", pa.large_list(pa.int32())),
    ]
)
_LABELLED = _LATE.set(0, pa.field("caption_id", pa.int64()))
ROWS = ["key", "caption", "tag_ids"]


@dataclass(frozen=True)
class CaptionBatch:
    """Row groups of captions that are labelled together, and the caption ids that they span.

    Attributes:
        row_groups: consecutive ones; empty where rows have to be sorted into batches first.
        first_id, last_id: no other batch has captions with ids between them.
    """

    row_groups: tuple[RowGroup, ...]
    first_id: int
    last_id: int


def batches_of(tags: TagFolder, rows: int | None = None) -> list[CaptionBatch]:
    """Cuts the captions of a folder into batches whose spans of caption ids do not overlap.

    Row groups whose spans overlap, as captions are not in the order of their ids, share a batch.

    Args:
        tags: the folder.
        rows: about how many captions a batch has; None takes `BATCH_ROWS`.
    """
    rows = rows or BATCH_ROWS
    batches: list[CaptionBatch] = []
    current: list[RowGroup] = []
    last, count = -1, 0
    for group in sorted(tags.row_groups, key=lambda g: (g.first_id, g.last_id)):
        if count >= rows and group.first_id > last:
            batches.append(CaptionBatch(tuple(current), current[0].first_id, last))
            current, count = [], 0
        last = max(last, group.last_id) if current else group.last_id
        current.append(group)
        count += group.rows
    if current:
        batches.append(CaptionBatch(tuple(current), current[0].first_id, last))
    return batches


def labelled_batches(
    tags: TagFolder,
    label: Callable[[Sequence[Sequence[RowGroup]]], Iterable[pl.DataFrame]],
    spill: Path,
) -> tuple[list[CaptionBatch], Iterable[pl.DataFrame]]:
    """Labels a folder in batches of bounded size that do not overlap, whatever the order of its rows.

    Args:
        tags: the folder.
        label: yields a frame of columns `LABELLED` for every batch of row groups, in their order.
        spill: an empty folder for rows that are set aside.

    Returns:
        Batches, and their frames in the same order. The batches have no row groups where so many
        overlap that their rows are sorted on disk first.
    """
    batches = batches_of(tags)
    rows = [_rows(batch.row_groups) for batch in batches]
    largest = max((group.rows for group in tags.row_groups), default=0)
    if max(rows, default=0) <= max(4 * BATCH_ROWS, 2 * largest) or len(tags.row_groups) == 1:
        return batches, label([batch.row_groups for batch in batches])
    first, last = batches[0].first_id, batches[-1].last_id
    count = -(-sum(rows) // BATCH_ROWS)
    bounds = [first + (last + 1 - first) * i // count for i in range(count + 1)]
    spans = zip(bounds, [bound - 1 for bound in bounds[1:]], strict=False)
    ordered = [CaptionBatch((), *span) for span in spans]
    return ordered, _sort_into(ordered, tags, label, spill)


def _sort_into(
    batches: Sequence[CaptionBatch], tags: TagFolder, label, spill: Path
) -> Iterator[pl.DataFrame]:
    """Labels row groups in the order of the files and sorts their rows into batches on disk."""
    first_ids = np.array([batch.first_id for batch in batches])
    groups: list[list[RowGroup]] = [[]]
    count = 0
    for group in tags.row_groups:
        if count >= BATCH_ROWS:
            groups.append([])
            count = 0
        groups[-1].append(group)
        count += group.rows
    spilled = Spill(spill, "unordered", _LABELLED)
    for frame in label(groups):
        bucket = np.searchsorted(first_ids, frame["caption_id"].to_numpy(), side="right") - 1
        spilled.put(frame.with_columns(bucket=pl.Series(bucket)))
    for number in range(len(batches)):
        yield spilled.take(number)


def _rows(row_groups: Iterable[RowGroup]) -> int:
    return sum(group.rows for group in row_groups)


def images_of(
    tags: TagFolder,
    batches: Sequence[CaptionBatch],
    labelled: Iterable[pl.DataFrame],
    spill: Path,
    partial: bool,
) -> Iterator[pl.DataFrame]:
    """Gives every image its caption and tag ids.

    Args:
        tags: the folder, whose index says which image has which caption.
        batches: of its captions, see `labelled_batches`.
        labelled: a frame of columns `LABELLED` for every batch, in the same order.
        spill: an empty folder for rows that are set aside; they are compressed.
        partial: leave out images whose captions no shard holds.

    Yields:
        Columns `key`, `caption`, `tag_ids`; images in the order of the index, or captions in the order
        of their ids where the folder has no index, with the id as the key.

    Raises:
        UserError: a caption that the index names is missing (and `partial` is false) or is there twice.
    """
    if not tags.index:
        for frame in labelled:
            frame = frame.sort("caption_id", maintain_order=True)
            ids = frame["caption_id"]
            if len(ids) > 1 and (ids.diff() == 0).any():
                raise UserError(
                    f"caption {ids.filter(ids.is_duplicated())[0]} is twice in {tags.name}: ids are the "
                    "keys of the images where there is no index, so they must not begin anew in a file"
                )
            key = pl.col("caption_id").cast(pl.String).alias("key")
            yield frame.select(key, "caption", "tag_ids")
        return
    late = _LateImages.find(tags, batches, spill)
    index = _index_batches(tags, ["key", "caption_id"])
    chunks = iter(late.chunks)
    chunk = next(chunks, None)
    keys = None
    for number, frame in enumerate(labelled):
        late.set_aside(number, frame)
        while chunk is not None and chunk.batch == number:
            if chunk.starts_index_batch:
                keys = next(index)
            images = keys.slice(chunk.offset, chunk.rows)
            yield _join(images, frame, late.rows_for(chunk), tags, partial)
            chunk = next(chunks, None)


@dataclass(frozen=True)
class _Chunk:
    """Consecutive images that can be written once a certain batch of captions has arrived.

    Attributes:
        number: of the chunk, counted from 0.
        batch: number of the batch of captions.
        offset: row of its first image within its batch of the index.
        rows: number of images.
        start: position of its first image among all images.
        starts_index_batch: it is the first chunk of its batch of the index.
    """

    number: int
    batch: int
    offset: int
    rows: int
    start: int
    starts_index_batch: bool


@dataclass
class _LateImages:
    """Images whose caption is in an earlier batch than their chunk: ids, positions, spilled rows.

    Attributes:
        chunks: all images, in the order of the index.
        starts: of the chunks, int64.
        late: batch -> (caption ids, positions of the images), int64 each.
        spilled: rows of captions, by the chunk that needs them.
    """

    chunks: list[_Chunk]
    starts: np.ndarray
    late: dict[int, list[tuple[np.ndarray, np.ndarray]]]
    spilled: Spill

    @classmethod
    def find(cls, tags: TagFolder, batches: Sequence[CaptionBatch], spill: Path) -> _LateImages:
        """Reads the caption ids of the index once."""
        first_ids = np.array([batch.first_id for batch in batches])
        chunks: list[_Chunk] = []
        late: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        start, newest = 0, 0
        for table in _index_batches(tags, ["caption_id"]):
            ids = table["caption_id"].to_numpy()
            batch_of = np.searchsorted(first_ids, ids, side="right") - 1
            # The batch at which an image can be written, as all images before it come first.
            written_at = np.maximum(np.maximum.accumulate(batch_of), newest)
            cuts = np.flatnonzero(np.diff(written_at, prepend=-1))
            for begin, end in zip(cuts, [*cuts[1:], len(ids)], strict=True):
                batch, rows = int(written_at[begin]), end - begin
                chunks.append(_Chunk(len(chunks), batch, begin, rows, start + begin, begin == 0))
            rows = np.flatnonzero((batch_of < written_at) & (batch_of >= 0))
            rows = rows[np.argsort(batch_of[rows], kind="stable")]
            changes = np.flatnonzero(np.diff(batch_of[rows], prepend=-1))
            for same_batch in np.split(rows, changes[1:]) if len(rows) else []:
                late[int(batch_of[same_batch[0]])].append((ids[same_batch], start + same_batch))
            start, newest = start + len(ids), int(written_at[-1])
        starts = np.array([chunk.start for chunk in chunks], dtype=np.int64)
        return cls(chunks, starts, late, Spill(spill, "late", _LATE))

    def set_aside(self, number: int, frame: pl.DataFrame) -> None:
        """Keeps the rows of batch `number` that images of later chunks need."""
        if number not in self.late:
            return
        ids, positions = map(np.concatenate, zip(*self.late.pop(number), strict=True))
        late = pl.DataFrame(
            {
                "caption_id": ids,
                "position": positions,
                "bucket": np.searchsorted(self.starts, positions, side="right") - 1,
            }
        )
        self.spilled.put(late.join(frame, on="caption_id", how="inner"))

    def rows_for(self, chunk: _Chunk) -> pl.DataFrame:
        """The rows that were set aside for this chunk, with their offsets in it as `row`."""
        rows = self.spilled.take(chunk.number)
        return rows.with_columns(row=(pl.col("position") - chunk.start).cast(pl.UInt32))


def _join(
    images: pl.DataFrame, frame: pl.DataFrame, late: pl.DataFrame, tags: TagFolder, partial: bool
) -> pl.DataFrame:
    images = images.with_row_index("row")
    found = images.join(frame, on="caption_id", how="inner", maintain_order="left")
    if len(late):
        late = images.select("row", "key").join(late, on="row", how="inner")
        columns = ["row", *ROWS]
        found = pl.concat([found.select(columns), late.select(columns)]).sort("row")
    missing = len(images) - found["row"].n_unique()
    if missing and not partial:
        ids = images.join(found, on="row", how="anti")["caption_id"]
        raise UserError(
            f"no shard of {tags.name} holds caption {ids[0]}, which its index names "
            f"({missing} images here): finish the run, or leave such images out with --partial"
        )
    if len(found) > len(images) - missing:
        twice = found.filter(found["row"].is_duplicated())["row"][0]
        raise UserError(
            f"caption {images['caption_id'][twice]} is twice in the shards of {tags.name}"
        )
    return found.select(ROWS)


def _index_batches(tags: TagFolder, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The rows of the index in their order, cut at the same rows whichever columns are read."""
    for path in tags.index:
        try:
            with open_file(tags.storage, path) as file:
                for batch in pq.ParquetFile(file).iter_batches(_INDEX_ROWS, columns=columns):
                    frame = pl.from_arrow(pa.Table.from_batches([batch]))
                    if len(frame):
                        yield frame.with_columns(pl.col("caption_id").cast(pl.Int64))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"cannot read the index {path}: {reason(error)}") from error
