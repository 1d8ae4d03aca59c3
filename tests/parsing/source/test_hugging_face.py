"""Hugging Face data sets, by name and split."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from parsing.source.readers import Row
from tests.parsing.source.reading import read


@pytest.fixture
def data_set(tmp_path):
    folder = tmp_path / "my_captions"
    folder.mkdir()
    pq.write_table(
        pa.table({"url": ["u1", "u2"], "caption": ["one", None], "n": [1, 2]}),
        folder / "train-0.parquet",
    )
    (folder / "test.jsonl").write_text('{"url": "u9", "caption": "nine", "n": 9}\n')
    return folder


def test_a_hugging_face_data_set_is_read_by_name_and_split(data_set, tmp_path):
    (data_set / "test.jsonl").unlink()
    assert read(f"hf:{data_set}") == [Row("u1", "one"), Row("u2", "")]
    with pytest.raises(UserError, match=r"cannot open the Hugging Face data set .*test"):
        read(f"hf:{data_set}", split="test")
    lines = tmp_path / "lines"
    lines.mkdir()
    (lines / "test.jsonl").write_text('{"text": "nine"}\n{"text": "ten"}\n')
    assert read(f"hf:{lines}", split="test") == [
        Row(f"hf:{lines}:1", "nine"),
        Row(f"hf:{lines}:2", "ten"),
    ]


def test_the_columns_of_a_data_set_are_checked_like_those_of_a_file(data_set):
    (data_set / "test.jsonl").unlink()
    with pytest.raises(UserError, match=r"has no column 'alt' \(it has url, caption, n\)"):
        read(f"hf:{data_set}", caption_column="alt")
    with pytest.raises(UserError, match=r"column 'n' of hf:.* holds int64, not text"):
        read(f"hf:{data_set}", caption_column="n")


def test_a_data_set_that_is_not_there_is_told_in_one_sentence(capfd):
    with pytest.raises(
        UserError, match="cannot open the Hugging Face data set nobody/nothing"
    ) as e:
        read("hf:nobody/nothing")
    assert "\n" not in str(e.value)
