from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from common.errors import UserError
from labels import spill
from labels.spill import Spill

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.large_string())])


def _rows(numbers, buckets) -> pl.DataFrame:
    texts = [f"text {n}" for n in numbers]
    return pl.DataFrame({"number": numbers, "text": texts, "bucket": buckets})


@pytest.mark.parametrize("in_memory", [1, 4, 1000])
def test_buckets_come_back_whole_and_in_order(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(spill, "ROWS_IN_MEMORY", in_memory)
    rows = Spill(tmp_path, "x", SCHEMA)
    for start in range(0, 30, 3):
        rows.put(_rows([start, start + 1, start + 2], [start % 4, 2, start % 4]))
    everything = [(n, n // 3 * 3 % 4 if n % 3 != 1 else 2) for n in range(30)]
    for bucket in (2, 0, 1, 3):
        taken = rows.take(bucket)
        assert taken["number"].to_list() == [n for n, b in everything if b == bucket]
        assert taken["text"].to_list() == [f"text {n}" for n in taken["number"]]
    assert len(rows.take(2)) == len(rows.take(99)) == 0
    assert bool(list(tmp_path.iterdir())) == (in_memory < 30)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "ROWS_IN_MEMORY", 1)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.ipc.new_file", full)
    with pytest.raises(UserError, match=r"no room left in .*: free some space"):
        Spill(tmp_path, "x", SCHEMA).put(_rows([1], [0]))
