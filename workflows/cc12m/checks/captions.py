"""Captions: there, readable, in the columns that the parser takes, and in sound UTF-8."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pyarrow.parquet as pq

from parsing.source.files import COMPRESSED, file_size, format_of, opened
from parsing.source.readers import HF_PREFIX, Row, Source
from workflows.cc12m.checks.finding import FAILED, WARNING, Finding, failed, ok, warning

READ = 20_000  # rows that are read
BAD_SHARE = 0.01  # of rows that cannot be read, above which something is wrong with the file
_TAIL = 1 << 16  # bytes at the end of a file that are read


def check_captions(source: Source) -> Iterator[Finding]:
    """Reads the first rows of the first file, and the end of the last one.

    Raises:
        UserError: nothing there, or a file, format or column that the parser refuses.
    """
    files = source.files()
    notes: dict[str, str] = {}
    rows = list(itertools.islice(source.rows(notes.setdefault), READ))
    if not rows:
        yield failed(f"{', '.join(source.paths)} holds no row: name another file")
        return
    total, exact = count_rows(source, files, rows)
    size = "some" if total is None else f"{total:,}" if exact else f"about {total:,}"
    words = sum(len(row.caption.split()) for row in rows) / len(rows)
    first = rows[0]
    yield ok(
        f"{size} rows in {len(files):,} file{'s' * (len(files) != 1)}, {words:.1f} words a caption; "
        f"the first is {first.caption[:60]!r} of the image {first.key!r}"
    )
    yield from map(warning, notes.values())
    yield from _contents(rows)
    yield from _end(source, files[-1])


def count_rows(source: Source, files: list[str], rows: list[Row]) -> tuple[int | None, bool]:
    """How many rows there are, and whether that is exact; None where only reading all would tell.

    Args:
        source, files: the captions, and the files that they are in.
        rows: the first `READ` of them.
    """
    if len(rows) < READ:
        return len(rows), True
    formats = {None if _is_hub(path) else source.format or format_of(path) for path in files}
    if formats == {"parquet"}:
        total = 0
        for path in files:
            with opened(path) as file:
                total += pq.ParquetFile(file).metadata.num_rows
        return total, True
    sizes = [None if _is_hub(path) else file_size(path) for path in files]
    packed = any(path.lower().endswith(COMPRESSED) for path in files)
    if formats != {"tsv"} or packed or None in sizes:
        return None, False
    line = sum(len(f"{row.key}\t{row.caption}\n".encode()) for row in rows) / len(rows)
    return round(sum(sizes) / line), False


def _is_hub(path: str) -> bool:
    return path.startswith(HF_PREFIX)


def _contents(rows: list[Row]) -> Iterator[Finding]:
    """What is odd about the rows that were read."""
    bad = [row for row in rows if row.problem is not None]
    if bad:
        share = len(bad) / len(rows)
        level = FAILED if share > BAD_SHARE else WARNING
        advice = "mend the file" if level == FAILED else "each becomes a row with status `failed`"
        yield Finding(
            level,
            f"{len(bad):,} of the first {len(rows):,} rows cannot be read ({bad[0].problem}): {advice}",
        )
    control = [row for row in rows if row.problem is None and "\0" in row.caption]
    if control:
        yield failed(
            f"{len(control):,} of the first {len(rows):,} captions hold zero bytes, as UTF-16 read as "
            "UTF-8 does: convert the file to UTF-8"
        )
    empty = sum(not row.caption.strip() and row.problem is None for row in rows)
    if empty > BAD_SHARE * len(rows):
        yield warning(
            f"{empty:,} of the first {len(rows):,} captions are empty: is this the right "
            "--caption-column?"
        )


def _end(source: Source, path: str) -> Iterator[Finding]:
    """Whether a TSV ends in the middle of a row, as a download that was cut off does."""
    form = None if _is_hub(path) else source.format or format_of(path)
    if form != "tsv" or path.lower().endswith(COMPRESSED):
        return
    size = file_size(path)
    if not size:
        return
    with opened(path) as file:
        file.seek(max(0, size - _TAIL))
        last = file.read().rstrip(b"\r\n").rpartition(b"\n")[2]
    if b"\t" not in last:
        yield warning(
            f"the last line of {path} has one column: was its download cut off? Get it again"
        )
