from __future__ import annotations

import contextlib
import errno
import json

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from labels import label_file
from labels.label_file import LABELS, LabelWriter, read_footer, vocabulary_path
from labels.vocabulary import Vocabulary

ROWS = [("a", "one", [0, 2]), ("b", "", []), ("ç", "three", [1])]


def test_the_file_carries_its_vocabulary(tmp_path, write_labels):
    footer, about, vocabulary = read_footer(write_labels(tmp_path / "x.parquet", ROWS))
    assert (footer.num_rows, about.images, about.labels) == (3, 3, 3)
    assert about.vocabulary == vocabulary.fingerprint
    assert list(vocabulary.tags) == ["tag 0", "tag 1", "tag 2"]


def test_a_vocabulary_of_two_hundred_thousand_tags_fits(tmp_path):
    tags = [f"a rather long tag number {i}" for i in range(200_000)]
    v = Vocabulary(tags, ["object"] * 200_000, np.arange(200_000)[::-1].copy(), 10**8)
    with LabelWriter(tmp_path / "x.parquet", v) as writer:
        writer.write(
            pa.table({"key": ["a"], "caption": ["b"], "tag_ids": [[199_999]]}, schema=LABELS)
        )
    assert read_footer(tmp_path / "x.parquet")[2] == v
    assert pd.read_parquet(tmp_path / "x.parquet")["tag_ids"][0].tolist() == [199_999]


def test_pandas_duckdb_polars_and_datasets_open_it_as_it_is(tmp_path, write_labels):
    path = str(write_labels(tmp_path / "x.parquet", ROWS))
    assert [r.tolist() for r in pd.read_parquet(path)["tag_ids"]] == [[0, 2], [], [1]]
    assert pl.read_parquet(path).rows() == ROWS
    assert duckdb.sql(f"select key, caption, tag_ids from '{path}'").fetchall() == ROWS
    [(found,)] = duckdb.sql(
        f"select decode(value) from parquet_kv_metadata('{path}') where decode(key) = 'tagalign.vocabulary'"
    ).fetchall()
    assert json.loads(found)["tags"] == ["tag 0", "tag 1", "tag 2"]
    loaded = datasets.load_dataset(
        "parquet", data_files=path, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded[0] == {"key": "a", "caption": "one", "tag_ids": [0, 2]}


def test_how_rows_are_cut_into_calls_does_not_change_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(label_file, "ROW_GROUP", 7)
    v = Vocabulary(["t"], ["object"], np.array([1]), 1)
    rows = [{"key": f"k{i}", "caption": f"c{i}", "tag_ids": [0] * (i % 2)} for i in range(40)]
    table = pa.Table.from_pylist(rows, schema=LABELS)
    found = []
    for name, step in (("a", 40), ("b", 3), ("c", 7)):
        with LabelWriter(tmp_path / name, v) as writer:
            for start in range(0, 40, step):
                writer.write(table.slice(start, step))
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1] == found[2]
    assert pq.read_metadata(tmp_path / "a").num_row_groups == 6


def test_files_of_one_shape_have_different_footers(tmp_path, write_labels):
    a = write_labels(tmp_path / "a.parquet", [("k", "x", [0]), ("l", "x", [1])])
    b = write_labels(tmp_path / "b.parquet", [("k", "x", [1]), ("l", "x", [0])])
    assert read_footer(a)[1].digest != read_footer(b)[1].digest


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", ROWS)
    before = path.read_bytes()
    writer = LabelWriter(path, read_footer(path)[2])
    with contextlib.suppress(KeyboardInterrupt), writer:
        writer.write(pq.read_table(path))
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path, write_labels, monkeypatch):
    path = write_labels(tmp_path / "x.parquet", ROWS)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with (
        pytest.raises(UserError, match=r"no room left in .*: free some space"),
        LabelWriter(path, read_footer(path)[2]) as writer,
    ):
        writer.write(pq.read_table(path))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_a_label_file_older_than_its_vocabulary_is_refused(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", ROWS)
    beside = vocabulary_path(path)
    pq.write_table(read_footer(path)[2].table(), beside)
    read_footer(path)  # the same vocabulary, if written later, is fine
    newer = Vocabulary(["tag 9"], ["object"], np.array([1]), 10)
    pq.write_table(newer.table(), beside)
    with pytest.raises(UserError, match=r"older vocabulary than x\.vocab\.parquet"):
        read_footer(path)


def test_files_that_are_no_label_files_are_one_sentence(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", ROWS)
    with pytest.raises(UserError, match="there is no label file"):
        read_footer(tmp_path / "nowhere.parquet")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged or cut off"):
        read_footer(cut)
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), bare)
    with pytest.raises(UserError, match="carries no vocabulary"):
        read_footer(bare)
    other = tmp_path / "other.parquet"
    pq.write_table(pq.read_table(path).rename_columns(["key", "text", "tag_ids"]), other)
    with pytest.raises(UserError, match="no column 'caption'"):
        read_footer(other)


def test_a_file_of_a_later_format_says_so(tmp_path, write_labels, monkeypatch):
    monkeypatch.setattr("labels.label_file.About.to_json", lambda self: '{"format": 99}')
    path = write_labels(tmp_path / "x.parquet", ROWS)
    with pytest.raises(UserError, match="format 99"):
        read_footer(path)
