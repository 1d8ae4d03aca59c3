"""Lines of TSV files: cells as written, and what is wrong with a line."""

from __future__ import annotations

import pytest

from parsing.source.readers import Row
from tests.parsing.source.reading import read


@pytest.fixture
def tsv(tmp_path):
    def write(data: bytes):
        path = tmp_path / "captions.tsv"
        path.write_bytes(data)
        return path

    return write


def test_tsv_lines_are_url_and_caption_as_written(tsv):
    path = tsv(b'https://a/1\t "A <PERSON>" \xe2\x80\x94 it\'s, \\n here\nhttps://a/2\t\n')
    assert read(path) == [
        Row("https://a/1", ' "A <PERSON>" — it\'s, \\n here'),
        Row("https://a/2", ""),
    ]


def test_windows_line_ends_a_byte_order_mark_and_a_missing_last_newline_are_no_part_of_it(tsv):
    assert read(tsv(b"\xef\xbb\xbfu1\tone\r\nu2\ttwo")) == [Row("u1", "one"), Row("u2", "two")]


def test_empty_tsv_lines_are_no_rows_but_count_as_lines(tsv):
    rows = read(tsv(b"u1\tone\n\n\r\nonly\n"))
    assert rows == [
        Row("u1", "one"),
        Row("only", "", "line 4: 1 column instead of url<TAB>caption"),
    ]


def test_lines_with_too_few_or_too_many_columns_keep_their_place_and_text(tsv):
    path = tsv(b"u1\n" + b"u2\ta\tb\tc\n" + b"\tno url\n" + b"\t\t\n")
    assert read(path) == [
        Row("u1", "", "line 1: 1 column instead of url<TAB>caption"),
        Row("u2", "a\tb\tc", "line 2: 4 columns instead of url<TAB>caption"),
        Row(f"{path}:3", "no url"),
        Row(f"{path}:4", "\t", "line 4: 3 columns instead of url<TAB>caption"),
    ]


def test_bytes_that_are_not_utf8_spoil_their_row_alone(tsv):
    rows = read(tsv(b"u1\tcaf\xe9 dog\nu2\ttwo\n"))
    assert rows == [Row("u1", "caf\ufffd dog", "line 1: not UTF-8"), Row("u2", "two")]


def test_control_characters_and_long_captions_pass_unchanged(tsv):
    text = "bell \x07 nul \x00 \x0b\x0c\x1c\x85\u2028 " + "x" * 100_000
    assert read(tsv(f"u1\t{text}\nu2\ttwo\n".encode())) == [Row("u1", text), Row("u2", "two")]


def test_real_captions_arrive_complete(shared):
    path = shared / "captions" / "cc3m_val_dev.tsv"
    expected = [line.split("\t") for line in path.read_text().split("\n")[:-1]]
    assert [[row.key, row.caption] for row in read(path)] == expected
    assert not any(row.problem for row in read(path))
