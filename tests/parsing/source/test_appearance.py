"""Inputs of which few of the first rows can be read stop a run, and are named as what they look like."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from common.storage import Folder
from parsing.run import main
from parsing.source.captions import Selection, write_caption_shards
from parsing.source.readers import Source

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html><body>Quota exceeded</body></html>\n"
CSV = b'url,caption\nhttps://a/1.jpg,a red bus\nhttps://a/2.jpg,"two cats, one dog"\n'
LABELLED = b"a red bus\thttps://a/1.jpg\tbus,church\t/m/01,/m/02\t0.9,0.7\n" * 3


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.tsv", CSV, "a CSV: convert it to TSV or Parquet"),
        ("a.tsv", LABELLED, "a table of 5 columns: keep two of them"),
        ("a.tsv", POINTER, "a Git LFS pointer"),
        ("a.tsv", PAGE, "a web page"),
        ("a.tsv", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        ("a.tsv", b"a dog\na cat\n", "lines of plain text"),
        ("a.tsv", b'{"url": "u", "caption": "a"}\n', "JSON lines: give --format jsonl"),
        ("a.tsv", gzip.compress(b"u\ta dog\n"), "packed by gzip: its name must end in .gz"),
        ("a.jsonl", POINTER, "a Git LFS pointer"),
        ("a.jsonl", b'{\n "caption": "a",\n "url": "u"\n}\n', "JSON over several lines"),
        ("a.tsv", b"/annex/objects/SHA256E-s123--ab.tsv\n", "a git-annex pointer"),
        ("a.jsonl", b"../.git/annex/objects/aa/bb/MD5E-s1--ab/MD5E-s1--ab", "a git-annex pointer"),
        ("a.parquet", b"/annex/objects/SHA256E-s123--ab.parquet\n", "a git-annex pointer"),
        ("a.jsonl", b'[{"caption": "a"},\n{"caption": "b"}]\n', "one JSON array"),
        ("a.jsonl", b"u\ta dog\nv\ta cat\n", "TSV: give --format tsv"),
        ("a.parquet", POINTER, "a Git LFS pointer"),
        ("a.parquet", PAGE, "a web page"),
        ("a.tar", POINTER * 9, "a Git LFS pointer"),
    ],
)
def test_a_file_of_another_kind_stops_the_pass_before_a_parser_starts(
    tmp_path, name, data, sentence
):
    path = tmp_path / name
    path.write_bytes(data)
    source = Source((str(path),))
    for look in (
        source.check,
        lambda: write_caption_shards(Folder(tmp_path / "run"), source, Selection()),
    ):
        with pytest.raises(
            UserError, match=rf"cannot (?:be )?read.*it looks like {sentence}"
        ) as told:
            look()
        assert "\n" not in str(told.value)


def test_a_field_that_is_missing_is_not_taken_for_another_format(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"url": "u", "meta": {"caption": "a"}}\n' * 3)
    with pytest.raises(UserError, match=r"no field caption or text.*: mend the file, or see"):
        Source((str(tmp_path / "a.jsonl"),)).check()


def test_the_command_stops_with_exit_code_2_before_a_cluster_is_started(tmp_path, capsys):
    path = tmp_path / "renamed.tsv"
    path.write_bytes(CSV)
    flags = ["--parser", "fake", "--captions", str(path), "--output", str(tmp_path / "tags")]
    assert main([*flags, "--address", "127.0.0.1:1"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: 3 of the first 3 rows of")
    assert line.endswith("it looks like a CSV: convert it to TSV or Parquet")
    assert not (tmp_path / "tags").exists()


def test_utf16_without_its_mark_stops_the_pass(tmp_path):
    for name, text in (("a.tsv", "u\ta dog\nv\ta cat\n"), ("a.jsonl", '{"caption": "a"}\n')):
        (tmp_path / name).write_bytes(text.encode("utf-16-le"))
        with pytest.raises(UserError, match=r"UTF-16"):
            Source((str(tmp_path / name),)).check()
    (tmp_path / "b.tsv").write_bytes(b"u\ta dog \0 on a mat\n")
    Source((str(tmp_path / "b.tsv"),)).check()


def test_a_parquet_file_of_another_name_is_recognised(tmp_path):
    pq.write_table(pa.table({"caption": ["a"] * 10}), tmp_path / "a.tsv")
    with pytest.raises(UserError, match="a Parquet file: give --format parquet"):
        Source((str(tmp_path / "a.tsv"),)).check()


def test_a_spoilt_file_among_good_ones_stops_the_pass(tmp_path):
    (tmp_path / "1.tsv").write_text("https://a/1\ta dog\n")
    (tmp_path / "2.tsv").write_bytes(POINTER)
    source = Source((f"{tmp_path}/*.tsv",))
    source.check()
    with pytest.raises(
        UserError, match=r"3 of the first 3 rows of .*2\.tsv cannot be read \(line 1"
    ):
        write_caption_shards(Folder(tmp_path / "run"), source, Selection())


def test_some_spoilt_rows_are_rows_as_before(tmp_path):
    records = [
        b"{cut" if n % 3 == 0 else json.dumps({"caption": f"a {n}"}).encode() for n in range(30)
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(records))
    rows = list(Source((f"{tmp_path}/a.jsonl",)).checked_rows())
    assert sum(row.problem is not None for row in rows) == 10
