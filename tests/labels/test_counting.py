from __future__ import annotations

import polars as pl
import pytest

from common.errors import UserError
from labels.counting import (
    COUNTS,
    TagCounts,
    add_up,
    choose,
    count_list,
    count_row_groups,
    rank,
)
from labels.tag_folders import open_tag_folders
from labels.vocabulary import KINDS


@pytest.fixture
def tags(tmp_path, write_tags, captions):
    [tags] = open_tag_folders([str(write_tags(tmp_path / "tags", captions, shards=4))])
    return tags


def _counts(rows, captions: int = 10, unparsed: int = 0) -> TagCounts:
    return TagCounts(pl.DataFrame(rows, COUNTS, orient="row"), captions, unparsed)


def _rows(counts: TagCounts) -> set[tuple]:
    return set(counts.tags.rows())


def test_a_tag_counts_once_for_every_caption_that_has_it(tags):
    counts = count_row_groups(tags.row_groups, KINDS, {}, tags.has_status)
    assert _rows(counts) == {
        ("object", "girl", 2),
        ("object", "bed", 1),
        ("object", "car", 1),
        ("object", "wall", 1),
        ("object", "dog", 1),
        ("attribute", "young", 2),
        ("attribute", "wooden", 1),
        ("attribute", "red", 1),  # of two things in one caption
    }
    assert (counts.captions, counts.unparsed) == (4, 0)


def test_only_the_kinds_that_are_asked_for_are_counted(tags):
    counts = count_row_groups(tags.row_groups, ["attribute"], {}, tags.has_status)
    assert set(counts.tags["kind"]) == {"attribute"}


def test_a_caption_with_two_synonyms_of_a_tag_counts_once(tags):
    synonyms = {"dog": "girl", "wall": "girl"}
    counts = count_row_groups(tags.row_groups, ["object"], synonyms, tags.has_status)
    assert ("object", "girl", 3) in _rows(counts)
    assert not {"dog", "wall"} & set(counts.tags["tag"])


def test_captions_that_could_not_be_parsed_are_counted_apart(tmp_path, write_tags):
    rows = [{"objects": ["a"]}, {"status": "failed"}, {"status": "empty"}, {"status": "too_long"}]
    [tags] = open_tag_folders([str(write_tags(tmp_path / "tags", rows))])
    counts = count_row_groups(tags.row_groups, KINDS, {}, has_status=True)
    assert (counts.captions, counts.unparsed) == (4, 2)
    assert count_row_groups(tags.row_groups, KINDS, {}, has_status=False).unparsed == 0


def test_counts_of_parts_add_up_to_the_counts_of_all(tags):
    whole = count_row_groups(tags.row_groups, KINDS, {}, tags.has_status)
    parts = [count_row_groups([group], KINDS, {}, tags.has_status) for group in tags.row_groups]
    total = add_up(parts)
    assert len(parts) == 4
    assert _rows(total) == _rows(whole)
    assert (total.captions, total.unparsed) == (whole.captions, whole.unparsed)


def test_tags_are_ranked_by_count_then_by_code_point():
    counts = _counts(
        [("object", tag, n) for tag, n in (("é", 3), ("b", 3), ("B", 3), ("z", 9), ("a", 1))]
    )
    ranked = rank(counts, stop_tags=["z"], min_count=2)
    assert ranked["object"].rows() == [("B", 3), ("b", 3), ("é", 3)]
    assert ranked["attribute"].is_empty()


def test_no_tag_left_to_rank_is_one_sentence():
    counts = _counts([("object", "a", 3)])
    with pytest.raises(UserError, match=r"^no tag with 4 captions or more in 10 captions: "):
        rank(counts, [], min_count=4)
    with pytest.raises(UserError, match=r"^no tag in 10 captions: "):
        rank(counts, ["a"], min_count=1)


RANKED = {
    "object": pl.DataFrame({"tag": ["dog", "orange", "cat"], "count": [6, 4, 2]}),
    "attribute": pl.DataFrame({"tag": ["red", "orange"], "count": [5, 1]}),
}


def test_the_most_frequent_of_each_kind_are_chosen():
    vocabulary = choose(RANKED, {"object": 2, "attribute": 9}, captions=10)
    assert list(zip(vocabulary.kinds, vocabulary.tags, strict=True)) == [
        ("object", "dog"),
        ("object", "orange"),
        ("attribute", "red"),
        ("attribute", "orange"),
    ]
    assert vocabulary.frequencies.tolist() == [0.6, 0.4, 0.5, 0.1]


def test_tags_of_a_list_keep_its_order_and_are_taken_for_each_kind():
    vocabulary = count_list(RANKED, ["orange", "nothing", "dog"], KINDS, captions=10)
    assert list(zip(vocabulary.kinds, vocabulary.tags, strict=True)) == [
        ("object", "orange"),
        ("object", "dog"),
        ("attribute", "orange"),
    ]
    assert vocabulary.counts.tolist() == [4, 6, 1]
