"""Rows that are set aside by bucket: a limited number in memory, the others in files on disk."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import polars as pl
import pyarrow as pa

from common.storage import Folder

ROWS_IN_MEMORY = 250_000
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


class Spill:
    """Rows by bucket; each bucket can be taken once.

    Every file holds one record batch per bucket, so that n rows make n / `ROWS_IN_MEMORY` files
    whatever the number of buckets.

    Args:
        folder: where the files are written; the caller deletes it.
        name: beginning of the files' names.
        schema: of the rows, without Arrow's view types.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema):
        self._folder, self._name, self._schema = folder, name, schema
        self._stored = schema.insert(0, pa.field("bucket", pa.int64()))
        self._in_memory: pl.DataFrame | None = None
        self._files: list[Path] = []
        self._places: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def put(self, rows: pl.DataFrame) -> None:
        """Adds rows of the schema with one more column, `bucket` (int64).

        Raises:
            UserError: no room on the disk.
        """
        # Cast to Arrow's plain strings: Polars' string views would keep the text of all rows in
        # memory that these rows were selected from.
        rows = pl.from_arrow(rows.select(self._stored.names).to_arrow().cast(self._stored))
        self._in_memory = rows if self._in_memory is None else pl.concat([self._in_memory, rows])
        if len(self._in_memory) >= ROWS_IN_MEMORY:
            self._write()

    def take(self, bucket: int) -> pl.DataFrame:
        """Removes and returns the rows of a bucket, in the order in which they were put.

        No row may be put into the bucket afterwards.
        """
        parts = [pl.from_arrow(self._schema.empty_table())]
        for number, place in self._places.pop(bucket, []):
            with pa.OSFile(str(self._files[number])) as file:
                parts.append(pl.from_arrow(pa.ipc.open_file(file).get_batch(place)))
        if self._in_memory is not None:
            parts.append(self._in_memory.filter(bucket=bucket).drop("bucket"))
            self._in_memory = self._in_memory.filter(pl.col("bucket") != bucket)
        return pl.concat(parts)

    def _write(self) -> None:
        path = self._folder / f"{self._name}-{len(self._files)}.arrow"
        parts = self._in_memory.partition_by("bucket", as_dict=True, include_key=False)
        with (
            Folder(self._folder).write_errors(),
            pa.ipc.new_file(path, self._schema, options=_LZ4) as writer,
        ):
            for place, ((bucket,), part) in enumerate(parts.items()):
                self._places[bucket].append((len(self._files), place))
                [batch] = part.to_arrow().cast(self._schema).combine_chunks().to_batches()
                writer.write_batch(batch)
        self._files.append(path)
        self._in_memory = None
