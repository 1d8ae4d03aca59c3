"""From labelled captions to labelled images, in the order of the images' shards, in bounded memory.

Captions come batch by batch in the order of their ids, each batch once. The index gives ids in the
order of first appearance, so nearly every image finds its caption in the batch at hand. An image whose
caption has passed already (a repeated caption) was seen coming: when the batch went by, its row was put
aside, on disk beyond a fixed number of them. Time is linear in rows, memory in the size of a batch
plus 16 bytes per image with a repeated caption.
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

from labels.runs import Piece, Run, open_file
from labels.spill import Spill
from parsing.errors import UserError

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
class Batch:
    """Consecutive pieces of a run that are labelled together, and the caption ids they span."""

    pieces: tuple[Piece, ...]
    first_id: int
    last_id: int


def batches_of(run: Run, rows: int | None = None) -> list[Batch]:
    """Cuts a run into batches of about `rows` captions (`BATCH_ROWS`) that do not overlap in their caption ids.

    Pieces that overlap (captions in no order of their ids) end up in one batch.
    """
    rows = rows or BATCH_ROWS
    batches: list[Batch] = []
    waiting: list[Piece] = []
    last = -1
    for piece in sorted(run.pieces, key=lambda p: (p.first_id, p.last_id)):
        if waiting and sum(p.rows for p in waiting) >= rows and piece.first_id > last:
            batches.append(Batch(tuple(waiting), waiting[0].first_id, last))
            waiting = []
        last = max(last, piece.last_id) if waiting else piece.last_id
        waiting.append(piece)
    if waiting:
        batches.append(Batch(tuple(waiting), waiting[0].first_id, last))
    return batches


def labelled_batches(
    run: Run, label: Callable[[Sequence[Sequence[Piece]]], Iterable[pl.DataFrame]], spill: Path
) -> tuple[list[Batch], Iterable[pl.DataFrame]]:
    """Labels a run in batches of bounded size that do not overlap, whatever the order of its rows.

    Args:
        run: whose captions.
        label: gives a frame of columns `LABELLED` for each group of pieces, in their order.
        spill: an empty folder for rows that have to wait.

    Returns:
        Batches (of no pieces where rows had to be put in order first), and their frames.
    """
    batches = batches_of(run)
    rows = [sum(piece.rows for piece in batch.pieces) for batch in batches]
    largest = max((piece.rows for piece in run.pieces), default=0)
    if max(rows, default=0) <= max(4 * BATCH_ROWS, 2 * largest) or len(run.pieces) == 1:
        return batches, label([batch.pieces for batch in batches])
    first, last = batches[0].first_id, batches[-1].last_id
    count = -(-sum(rows) // BATCH_ROWS)
    bounds = [first + (last + 1 - first) * i // count for i in range(count + 1)]
    ordered = [Batch((), *span) for span in zip(bounds, [b - 1 for b in bounds[1:]], strict=False)]
    return ordered, _put_in_order(run, label, ordered, spill)


def _put_in_order(run, label, batches: Sequence[Batch], spill: Path) -> Iterator[pl.DataFrame]:
    firsts = np.array([batch.first_id for batch in batches])
    groups: list[list[Piece]] = [[]]
    for piece in run.pieces:
        if sum(p.rows for p in groups[-1]) >= BATCH_ROWS:
            groups.append([])
        groups[-1].append(piece)
    waiting = Spill(spill, "unordered", _LABELLED)
    for frame in label(groups):
        bucket = np.searchsorted(firsts, frame["caption_id"].to_numpy(), side="right") - 1
        waiting.put(frame.with_columns(bucket=pl.Series(bucket)))
    for number in range(len(batches)):
        yield waiting.take(number)


def images_of(
    run: Run, batches: Sequence[Batch], labelled: Iterable[pl.DataFrame], spill: Path, partial: bool
) -> Iterator[pl.DataFrame]:
    """Gives every image its caption and tag ids.

    Args:
        run: the run, whose index says which image has which caption.
        batches: of `batches_of`.
        labelled: per batch a frame of columns `LABELLED`, in the same order.
        spill: an empty folder for rows that have to wait; they are compressed.
        partial: leave out images whose captions no shard holds.

    Yields:
        Columns `key`, `caption`, `tag_ids`; images in the order of the index, or captions in the order
        of their ids where the run has no index, with the id as the key.

    Raises:
        UserError: a caption that the index names is missing (and `partial` is false) or is there twice.
    """
    if not run.index:
        for frame in labelled:
            yield frame.sort("caption_id", maintain_order=True).select(
                pl.col("caption_id").cast(pl.String).alias("key"), "caption", "tag_ids"
            )
        return
    waiting = _Waiting.plan(run, batches, spill)
    index = _index_batches(run, ["key", "caption_id"])
    plan = iter(waiting.chunks)
    chunk = next(plan, None)
    keys = None
    for number, frame in enumerate(labelled):
        waiting.put_aside(number, frame)
        while chunk is not None and chunk.batch == number:
            if chunk.starts_index_batch:
                keys = next(index)
            images = keys.slice(chunk.offset, chunk.rows)
            yield _join(images, frame, waiting.take(chunk), run, partial)
            chunk = next(plan, None)


@dataclass(frozen=True)
class _Chunk:
    """Consecutive images that can be written once batch `batch` of captions is at hand."""

    number: int
    batch: int
    offset: int  # within its batch of the index
    rows: int
    start: int  # position of its first image
    starts_index_batch: bool


@dataclass
class _Waiting:
    """Images whose captions pass before their turn: who they are, and their rows on disk."""

    chunks: list[_Chunk]
    late: dict[int, list[tuple[np.ndarray, np.ndarray]]]  # batch -> (caption ids, positions), int64
    rows: Spill

    @classmethod
    def plan(cls, run: Run, batches: Sequence[Batch], spill: Path) -> _Waiting:
        """Reads the caption ids of the index once."""
        firsts = np.array([batch.first_id for batch in batches])
        chunks: list[_Chunk] = []
        late: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        start, frontier = 0, 0
        for table in _index_batches(run, ["caption_id"]):
            ids = table["caption_id"].to_numpy()
            found = np.searchsorted(firsts, ids, side="right") - 1
            reach = np.maximum(np.maximum.accumulate(found), frontier)
            cuts = np.flatnonzero(np.diff(reach, prepend=-1))
            for begin, end in zip(cuts, [*cuts[1:], len(ids)], strict=True):
                first = begin == 0
                chunks.append(
                    _Chunk(len(chunks), int(reach[begin]), begin, end - begin, start + begin, first)
                )
            rows = np.flatnonzero((found < reach) & (found >= 0))
            rows = rows[np.argsort(found[rows], kind="stable")]
            firsts_of = np.flatnonzero(np.diff(found[rows], prepend=-1))
            for part in np.split(rows, firsts_of[1:]) if len(rows) else []:
                late[int(found[part[0]])].append((ids[part], start + part))
            start, frontier = start + len(ids), int(reach[-1])
        return cls(chunks, late, Spill(spill, "late", _LATE))

    def put_aside(self, number: int, frame: pl.DataFrame) -> None:
        """Keeps the rows of this batch that later images will ask for."""
        if number not in self.late:
            return
        ids, positions = map(np.concatenate, zip(*self.late.pop(number), strict=True))
        starts = np.array([chunk.start for chunk in self.chunks])
        late = pl.DataFrame(
            {
                "caption_id": ids,
                "position": positions,
                "bucket": np.searchsorted(starts, positions, side="right") - 1,
            }
        )
        self.rows.put(late.join(frame, on="caption_id", how="inner"))

    def take(self, chunk: _Chunk) -> pl.DataFrame:
        """The rows that waited for this chunk, with their offsets in it as `row`."""
        rows = self.rows.take(chunk.number)
        return rows.with_columns(row=(pl.col("position") - chunk.start).cast(pl.UInt32))


def _join(
    images: pl.DataFrame, frame: pl.DataFrame, late: pl.DataFrame, run: Run, partial: bool
) -> pl.DataFrame:
    images = images.with_row_index("row")
    found = images.join(frame, on="caption_id", how="inner", maintain_order="left")
    if len(late):
        late = images.select("row", "key").join(late, on="row", how="inner")
        columns = ["row", *ROWS]
        found = pl.concat([found.select(columns), late.select(columns)]).sort("row")
    missing = len(images) - found["row"].n_unique()
    if missing and not partial:
        names = images.join(found, on="row", how="anti")["caption_id"]
        raise UserError(
            f"no shard of {run.name} holds caption {names[0]}, which its index names "
            f"({missing} images here): finish the run, or leave such images out with --partial"
        )
    if len(found) > len(images) - missing:
        twice = found.filter(found["row"].is_duplicated())["row"][0]
        raise UserError(
            f"caption {images['caption_id'][twice]} is twice in the shards of {run.name}"
        )
    return found.select(ROWS)


def _index_batches(run: Run, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The index in its order; always cut in the same places, whichever columns are read."""
    for path in run.index:
        try:
            with open_file(run.folder, path) as file:
                for batch in pq.ParquetFile(file).iter_batches(_INDEX_ROWS, columns=columns):
                    frame = pl.from_arrow(pa.Table.from_batches([batch]))
                    if len(frame):
                        yield frame.with_columns(pl.col("caption_id").cast(pl.Int64))
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"cannot read the index {path}: {str(error).splitlines()[0]}"
            ) from error
