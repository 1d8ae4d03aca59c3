"""Captions that are odd, cut off or missing are named before a run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsing.source.readers import Source
from tests.workflows.cc12m.findings import levels, only
from workflows.cc12m.checks.captions import READ, check_captions
from workflows.cc12m.checks.finding import FAILED, OK, WARNING, Finding, run_check


def captions_of(path: Path, text: str | bytes) -> list[Finding]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return run_check("captions", lambda: check_captions(Source((str(path),))))


def test_sound_captions_are_ok_and_counted(tmp_path):
    found = captions_of(tmp_path / "c.tsv", "u1\ta dog\nu2\ta red cat\n")
    assert levels(found) == [OK]
    assert found[0].sentence.startswith(
        "2 rows in 1 file, 2.5 words a caption; the first is 'a dog'"
    )


def test_a_large_tsv_s_rows_are_estimated_and_parquet_s_counted(tmp_path):
    rows = 3 * READ
    lines = [f"https://a/{n:07d}\ta dog number {n:07d}\n" for n in range(rows)]
    found = captions_of(tmp_path / "c.tsv", "".join(lines))
    assert f"about {rows:,} rows" in only(found, OK)
    table = pa.table({"url": ["u"] * rows, "caption": ["a dog"] * rows})
    pq.write_table(table, tmp_path / "c.parquet")
    found = run_check("captions", lambda: check_captions(Source((str(tmp_path / "c.parquet"),))))
    assert only(found, OK).startswith(f"{rows:,} rows")


@pytest.mark.parametrize(
    ("text", "level", "sentence"),
    [
        (b"", FAILED, "holds no row"),
        (b"u1\tcaf\xe9\n" * 5 + b"u2\ta dog\n", FAILED, "line 1: not UTF-8): mend the file"),
        (b"u1 a dog\nu2 a cat\n", FAILED, "1 column instead of url<TAB>caption"),
        ("u1\ta dog\n".encode("utf-16"), FAILED, "is UTF-16, not UTF-8: convert it first"),
        (b"u1\ta\0d\0o\0g\0\n", FAILED, "hold zero bytes"),
        (b"u1\ta dog\n" * 200 + b"u2\tcaf\xe9\n", WARNING, "each becomes a row with status"),
        (b"url\tcaption\nu1\ta dog\n", WARNING, "has a header: captions are in its column"),
        (b"a dog\thttps://a/1\n", WARNING, "has URLs in its second column"),
        (b"u1\t\nu2\t \nu3\ta dog\n", WARNING, "2 of the first 3 captions are empty"),
    ],
)
def test_captions_with_something_odd_are_named(tmp_path, text, level, sentence):
    found = captions_of(tmp_path / "c.tsv", text)
    assert any(sentence in one.sentence for one in found if one.level == level), found


def test_a_download_that_was_cut_off_is_noticed_at_its_end(tmp_path):
    lines = "".join(f"https://a/{n}\ta dog\n" for n in range(READ + 10))
    found = captions_of(tmp_path / "c.tsv", lines + "https://a/99")
    assert "was its download cut off?" in only(found, WARNING)


def test_missing_files_and_columns_are_failures(tmp_path):
    def failure(source: Source) -> str:
        return only(run_check("captions", lambda: check_captions(source)), FAILED)

    assert "there are no captions at" in failure(Source((str(tmp_path / "no.tsv"),)))
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"url": ["u"], "words": ["a dog"]}), path)
    assert "no usual caption column" in failure(Source((str(path),)))
    assert "has no column 'alt'" in failure(Source((str(path),), caption_column="alt"))
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot read" in failure(Source((str(path),)))
