"""One Parquet file of captions: of CC12M's TSV, or of the images that img2dataset has fetched.

    python workflows/cc12m/to_parquet.py cc12m.tsv cc12m.parquet
    python workflows/cc12m/to_parquet.py data/cc12m cc12m-there.parquet

img2dataset reads a TSV's first line as a header and quotation marks as quoting. CC12M's TSV has neither, so
a row would be lost and captions changed; Parquet is read as it is. The second form reads the Parquet file
that img2dataset writes beside each shard, and keeps the images that were downloaded.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, reason
from parsing.source.readers import Source

SCHEMA = pa.schema(
    [pa.field("url", pa.string(), nullable=False), pa.field("caption", pa.string(), nullable=False)]
)
SIDECAR = ("key", "url", "caption", "status")  # columns of img2dataset's that are read
DOWNLOADED = "success"
ROWS = 131_072  # of a row group, and in memory


def convert(source: Path, target: Path, header: bool = False) -> tuple[int, int]:
    """Writes the rows that can be read, in their order.

    Args:
        source: a TSV `url<TAB>caption`, packed or not.
        target: appears once it is complete.
        header: the first line names the columns.

    Returns:
        rows written, and rows left out because they are not UTF-8 or have not two columns.

    Raises:
        UserError: the source cannot be read, or the target not be written.
    """
    notes: dict[str, str] = {}
    rows = Source((str(source),), format="tsv").rows(notes.setdefault)
    first = list(itertools.islice(rows, 1))
    if not header or "header" in notes:  # the reader has left it out by itself
        rows = itertools.chain(first, rows)
    written = bad = 0
    aside = target.with_name(f".{target.name}.part")
    try:
        with pq.ParquetWriter(aside, SCHEMA, compression="zstd") as writer:
            while batch := list(itertools.islice(rows, ROWS)):
                good = [row for row in batch if row.problem is None]
                urls, captions = [row.key for row in good], [row.caption for row in good]
                writer.write_table(pa.table([urls, captions], schema=SCHEMA))
                written, bad = written + len(good), bad + len(batch) - len(good)
        if not written:
            raise UserError(f"{source} has no row `url<TAB>caption`")
        aside.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return written, bad


def keep_downloaded(folder: Path, target: Path) -> tuple[int, int]:
    """Writes key, URL and caption of every image that img2dataset has stored.

    Args:
        folder: img2dataset's --output_folder, of --output_format webdataset.
        target: appears once it is complete.

    Returns:
        images that were downloaded, and images that were not.

    Raises:
        UserError: no Parquet files there, or such that img2dataset has not written.
    """
    files = sorted(str(path) for path in folder.glob("*.parquet"))
    if not files:
        raise UserError(f"{folder} holds no *.parquet: is it img2dataset's --output_folder?")
    aside = target.with_name(f".{target.name}.part")
    try:
        rows = pl.scan_parquet(files).select(SIDECAR)
        rows.filter(pl.col("status") == DOWNLOADED).drop("status").sink_parquet(aside)
        came = pl.scan_parquet(aside).select(pl.len()).collect().item()
        total = rows.select(pl.len()).collect().item()
        if not came:
            raise UserError(f"of {total:,} images in {folder} none came: see its *_stats.json")
        aside.replace(target)
    except pl.exceptions.ColumnNotFoundError as error:
        raise UserError(
            f"the Parquet files in {folder} lack one of {', '.join(SIDECAR)}: img2dataset writes them "
            "with --caption_col"
        ) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"cannot read {folder} or write {target}: {reason(error)}") from error
    finally:
        aside.unlink(missing_ok=True)
    return came, total - came


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="a TSV, or img2dataset's output folder")
    add("target", type=Path, metavar="PARQUET")
    add("--header", action="store_true", help="the TSV's first line names the columns")
    flags = parser.parse_args(arguments)
    try:
        if flags.source.is_dir():
            written, bad = keep_downloaded(flags.source, flags.target)
            why = "could not be downloaded"
        else:
            written, bad = convert(flags.source, flags.target, flags.header)
            why = "not UTF-8, or not two columns"
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    left_out = f"; {bad:,} left out: {why}" if bad else ""
    print(f"{written:,} rows in {flags.target}{left_out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
