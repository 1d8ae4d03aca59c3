"""Parquet files: columns of every type of string, and damage."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from parsing.source.readers import Row
from tests.parsing.source.reading import read


@pytest.fixture
def parquet(tmp_path):
    def write(columns: dict, name: str = "captions.parquet", **options):
        path = tmp_path / name
        pq.write_table(pa.table(columns), path, **options)
        return path

    return write


def test_usual_parquet_columns_are_found_and_others_named(parquet):
    path = parquet({"url": ["u1", None], "text": ["one", "two"], "alt": ["uno", None]})
    assert read(path) == [Row("u1", "one"), Row(f"{path}:2", "two")]
    assert read(path, caption_column="alt", key_column="text") == [
        Row("one", "uno"),
        Row("two", ""),
    ]


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_string_type_of_parquet_is_text(parquet, kind):
    captions = pa.array(["one", "one", None]).cast(kind)
    path = parquet({"key": pa.array([7, 8, 9]), "caption": captions})
    assert read(path) == [Row("7", "one"), Row("8", "one"), Row("9", "")]


@pytest.mark.parametrize("dictionary", [False, True])
def test_a_parquet_string_that_is_not_utf8_spoils_its_row_alone(parquet, dictionary):
    raw = pa.array([b"one", b"caf\xe9", None, b"four"], pa.binary())
    captions = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    if dictionary:
        captions = captions.dictionary_encode()
    path = parquet({"key": ["a", "b", "c", "d"], "caption": captions})
    assert read(path) == [
        Row("a", "one"),
        Row("b", "caf\ufffd", "row 2: not UTF-8"),
        Row("c", ""),
        Row("d", "four"),
    ]


def test_rows_are_numbered_across_row_groups(parquet):
    path = parquet({"caption": [f"c{n}" for n in range(10)]}, row_group_size=3)
    assert read(path) == [Row(f"{path}:{n + 1}", f"c{n}") for n in range(10)]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {},
            r"no usual caption column in .*captions.parquet \(it has a, b\): give --caption-column",
        ),
        (
            {"caption_column": "c"},
            r"captions.parquet has no column 'c' \(it has a, b\): see --caption",
        ),
        ({"caption_column": "b", "key_column": "k"}, r"has no column 'k' .*: see --key-column"),
        ({"caption_column": "a"}, r"column 'a' of .* holds int64, not text"),
    ],
)
def test_a_wrong_parquet_column_is_named(parquet, settings, sentence):
    path = parquet({"a": [1], "b": ["x"]})
    with pytest.raises(UserError, match=sentence):
        read(path, **settings)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_parquet_file_is_told_in_one_sentence(parquet, share):
    path = parquet({"key": ["u"] * 9000, "caption": [f"number {n}" for n in range(9000)]})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cannot read .*captions.parquet \(damaged") as told:
        read(path)
    assert "\n" not in str(told.value)


def test_a_parquet_file_damaged_in_its_middle_is_told_and_not_skipped(parquet):
    texts = [f"{n * 7919 % 10007} words" for n in range(50_000)]
    path = parquet({"caption": texts}, row_group_size=10_000, compression="zstd")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = os.urandom(4000)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot read .*captions.parquet"):
        read(path)


def test_real_alt_texts_arrive_complete(shared):
    path = shared / "captions" / "alttext_dev.parquet"
    table = pq.read_table(path)
    rows = read(path)
    assert [row.caption for row in rows] == [text or "" for text in table["TEXT"].to_pylist()]
    assert [row.key for row in rows] == table["URL"].to_pylist()


@pytest.mark.parametrize("within", ["list", "fixed list", "record"])
def test_a_text_that_is_not_utf8_spoils_its_own_row_alone_within_lists_and_records(
    tmp_path, within
):
    texts = pa.array([b"a dog", b"caf\xe9", b"a cat"])
    texts = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    if within == "record":
        texts = pa.StructArray.from_arrays([texts], ["text"])
    lists = pa.ListArray.from_arrays([0, 1, 2, 3], texts)
    if within == "fixed list":
        lists = pa.FixedSizeListArray.from_arrays(texts, 1)
    pq.write_table(pa.table({"url": ["1", "2", "3"], "caption": lists}), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")
    assert rows[::2] == [Row("1", "a dog"), Row("3", "a cat")]
    assert rows[1].problem == "row 2: not UTF-8"


def test_two_parquet_columns_of_one_name_are_told(tmp_path):
    columns = [pa.array(["https://a/1"]), pa.array(["a dog"]), pa.array(["a cat"])]
    pq.write_table(pa.table(columns, names=["url", "caption", "caption"]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet has two columns 'caption': give one of them"):
        read(tmp_path / "a.parquet")
