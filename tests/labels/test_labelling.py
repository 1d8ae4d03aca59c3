from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from labels.labelling import (
    LABELLED,
    _merge,
    ids_by_tag,
    label_row_groups,
    narrow_lists,
    narrowing,
)
from labels.tag_folders import open_tag_folders
from labels.vocabulary import Vocabulary


def _vocabulary(*tags: tuple[str, str]) -> Vocabulary:
    kinds, names = zip(*tags, strict=True)
    return Vocabulary(list(names), list(kinds), np.arange(len(tags), 0, -1), 10)


WIDE = _vocabulary(
    ("object", "girl"), ("object", "car"), ("object", "red"), ("attribute", "red"), ("attribute", "young")
)  # fmt: skip


def _label(folder, vocabulary, synonyms=None) -> pl.DataFrame:
    [tags] = open_tag_folders([str(folder)])
    return label_row_groups(tags.row_groups, ids_by_tag(vocabulary, synonyms or {}))


def test_captions_are_labelled_in_their_order_with_ascending_ids(tmp_path, write_tags, captions):
    frame = _label(write_tags(tmp_path / "tags", captions, shards=2), WIDE)
    assert dict(frame.schema) == LABELLED
    assert frame["caption_id"].to_list() == [0, 1, 2, 3]
    assert frame["caption"].to_list() == [row["caption"] for row in captions]
    assert frame["tag_ids"].to_list() == [[0, 4], [1, 3], [0, 4], []]


def test_a_word_is_labelled_by_its_kind(tmp_path, write_tags):
    rows = [{"objects": ["red"]}, {"attributes": [("red", "car")]}]
    assert _label(write_tags(tmp_path / "tags", rows), WIDE)["tag_ids"].to_list() == [[2], [3]]


def test_a_synonym_gets_the_id_of_the_tag_it_stands_for(tmp_path, write_tags):
    rows = [{"objects": ["auto", "car", "auto"]}, {"objects": ["lass"]}]
    synonyms = {"auto": "car", "lass": "woman"}  # the vocabulary has no woman
    frame = _label(write_tags(tmp_path / "tags", rows), WIDE, synonyms)
    assert frame["tag_ids"].to_list() == [[1], []]


def test_null_lists_null_tags_and_null_captions_are_labelled_with_nothing(tmp_path, write_tags):
    rows = [
        {"objects": None, "attributes": None, "caption": None},
        {"objects": [None, "girl"], "attributes": [None, (None, "girl")]},
    ]
    frame = _label(write_tags(tmp_path / "tags", rows), WIDE)
    assert frame["tag_ids"].to_list() == [[], [0]]
    assert frame["caption"][0] == ""


IDS = st.lists(st.integers(-1, 5), max_size=6)


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.lists(IDS, min_size=n, max_size=n), min_size=1, max_size=3)))  # fmt: skip
def test_merged_lists_are_the_sorted_union_of_known_ids(columns):
    series = [pl.Series(column, dtype=pl.List(pl.Int32)) for column in columns]
    merged = _merge(series, len(columns[0])).to_list()
    assert merged == [
        sorted({i for ids in row for i in ids if i >= 0}) for row in zip(*columns, strict=True)
    ]


def test_ids_of_a_smaller_vocabulary_are_those_of_its_own_tags():
    narrow = _vocabulary(("object", "girl"), ("object", "red"), ("attribute", "young"))
    to = narrowing(WIDE, narrow)
    assert to.tolist() == [0, -1, 1, -1, 2]
    lists = pa.array([[9], [0, 1, 4], [], [1, 3], [2]], pa.list_(pa.int32()))
    narrowed = narrow_lists(lists.slice(1), to)  # a slice, whose offsets do not begin at 0
    assert narrowed.to_pylist() == [[0, 2], [], [], [1]]
