"""Rows that have to wait for their turn: few in memory, the others in a few files on disk."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa

from parsing.errors import UserError

ROWS_IN_MEMORY = 250_000
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


class Spill:
    """Rows by bucket, each bucket to be taken once.

    Every file holds one record batch per bucket, so that n rows make n / `ROWS_IN_MEMORY` files
    whatever the number of buckets.

    Args:
        folder: where files may be written; whoever made it removes it.
        name: beginning of the files' names.
        schema: of the rows, in plain Arrow types.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema):
        self._folder, self._name, self._schema = folder, name, schema
        self._stored = schema.insert(0, pa.field("bucket", pa.int64()))
        self._waiting: pl.DataFrame | None = None
        self._files: list[Path] = []
        self._places: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def put(self, rows: pl.DataFrame) -> None:
        """Adds rows of the schema with one more column, `bucket` (int64).

        Raises:
            UserError: no room on the disk.
        """
        # Through Arrow's plain strings: Polars' views would keep all text in memory that the rows
        # were picked from.
        rows = pl.from_arrow(rows.select(self._stored.names).to_arrow().cast(self._stored))
        self._waiting = rows if self._waiting is None else pl.concat([self._waiting, rows])
        if len(self._waiting) >= ROWS_IN_MEMORY:
            self._write()

    def take(self, bucket: int) -> pl.DataFrame:
        """The rows of a bucket in the order they came in. Later rows of it would be lost."""
        parts = [pl.from_arrow(self._schema.empty_table())]
        for number, place in self._places.pop(bucket, []):
            with pa.OSFile(str(self._files[number])) as file:
                parts.append(pl.from_arrow(pa.ipc.open_file(file).get_batch(place)))
        if self._waiting is not None:
            parts.append(self._waiting.filter(bucket=bucket).drop("bucket"))
            self._waiting = self._waiting.filter(pl.col("bucket") != bucket)
        return pl.concat(parts)

    def _write(self) -> None:
        path = self._folder / f"{self._name}-{len(self._files)}.arrow"
        parts = self._waiting.partition_by("bucket", as_dict=True, include_key=False)
        with _explained(path), pa.ipc.new_file(path, self._schema, options=_LZ4) as writer:
            for place, ((bucket,), part) in enumerate(parts.items()):
                self._places[bucket].append((len(self._files), place))
                [batch] = part.to_arrow().cast(self._schema).combine_chunks().to_batches()
                writer.write_batch(batch)
        self._files.append(path)
        self._waiting = None


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot put rows aside in {path.parent}: {reason}") from error
