"""Label files with a score for each tag, as `training/check_tags.py` writes them."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from labels.label_file import SCORED_LABELS, LabelWriter, read_check, read_footer
from labels.reader import Labels
from labels.vocabulary import Vocabulary

ROWS = [("a", "one", [0, 2], [0.5, None]), ("b", "", [], []), ("c", "x", [1], [0.25])]


def write_scored(path: Path, rows=ROWS, check: dict | None = None) -> Path:
    vocabulary = Vocabulary(["ball", "hat", "red"], ["object"] * 2 + ["attribute"], np.ones(3), 3)
    columns = dict(zip(SCORED_LABELS.names, map(list, zip(*rows, strict=True)), strict=True))
    with LabelWriter(path, vocabulary, check or {"model": "tiny"}) as writer:
        writer.write(pa.table(columns, schema=SCORED_LABELS))
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return write_scored(tmp_path / "x.parquet")


def test_scores_stand_beside_the_tags_and_a_tag_without_one_counts_in_full(path):
    labels = Labels(path)
    assert labels.row(0).tolist() == [0, 2]
    assert labels.scores.dtype == np.float16
    assert labels.scores_of([2, 0]).tolist() == [0.25, 0.5, 1.0]
    assert labels.scores_of([1]).tolist() == []
    assert pickle.loads(pickle.dumps(labels)).scores_of([2]).tolist() == [0.25]
    with pytest.raises(IndexError):
        labels.scores_of([3])


def test_a_file_without_scores_has_ones(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", [row[:3] for row in ROWS])
    labels = Labels(path)
    assert labels.scores is None
    assert labels.scores_of([0, 2]).tolist() == [1, 1, 1]
    assert read_check(path) is None


def test_the_footer_says_how_the_tags_were_checked(path):
    assert read_check(path) == {"model": "tiny"}
    assert read_footer(path)[1].labels == 3


def test_files_that_differ_in_a_score_alone_have_different_footers(tmp_path, path):
    other = write_scored(tmp_path / "y.parquet", [*ROWS[:2], ("c", "x", [1], [0.75])])
    assert read_footer(path)[1].digest != read_footer(other)[1].digest


def test_pandas_duckdb_polars_and_datasets_read_the_scores(path, tmp_path):
    frame = pd.read_parquet(path)
    assert frame["scores"][0][0] == 0.5
    assert math.isnan(frame["scores"][0][1])
    assert pl.read_parquet(path)["scores"].to_list() == [[0.5, None], [], [0.25]]
    assert duckdb.sql(f"select scores from '{path}'").fetchall()[2] == ([0.25],)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded[0]["scores"] == [0.5, None]


def rewritten(path: Path, scores: pa.Array) -> Path:
    """The same file with another column of scores and the same metadata."""
    table = pq.read_table(path)
    table = table.set_column(table.schema.get_field_index("scores"), "scores", scores)
    stored = {
        key: value for key, value in pq.read_metadata(path).metadata.items() if b"tagalign" in key
    }
    pq.write_table(table.replace_schema_metadata(stored), path)
    return path


HALF = SCORED_LABELS.field("scores").type


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (pa.array([[1], [], [1]], HALF), "other lengths than its tag ids"),
        (pa.array([[1, 1], [], [1.5]], HALF), r"values outside \[0, 1\]"),
        (pa.array([["a", "b"], [], ["c"]]), "column 'scores' of .* holds list<"),
    ],
)
def test_scores_that_do_not_fit_the_tags_are_one_sentence(path, scores, message):
    rewritten(path, scores)
    with pytest.raises(UserError, match=message):
        Labels(path)


def test_damaged_metadata_of_the_check_is_one_sentence(path):
    stored = pq.read_metadata(path).metadata | {b"tagalign.check": b"{"}
    stored = {key: value for key, value in stored.items() if b"tagalign" in key}
    pq.write_table(pq.read_table(path).replace_schema_metadata(stored), path)
    with pytest.raises(UserError, match=r"the metadata of .* is damaged"):
        read_check(path)
