"""The tags contract: a shard's table has one row a caption, whatever became of it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from parsing.tags import EMPTY, FAILED, OK, TAGS, TOO_LONG, Parsed, count_statuses, tags_table

PARSED = [
    Parsed(objects=["dog", "sofa"], attributes=[("black", "dog")], raw=" black dog; sofa"),
    Parsed(status=EMPTY, error="no word in it"),
    Parsed(status=FAILED, error="line 3: not UTF-8"),
    Parsed(),
]


def test_a_shard_has_the_columns_of_the_contract_and_a_row_for_every_caption():
    table = tags_table([7, 8, 9, 10], ["a black dog", "", "caf\ufffd", "of the"], PARSED)
    assert table.schema.equals(TAGS)
    assert table.to_pylist()[0] == {
        "caption_id": 7,
        "caption": "a black dog",
        "objects": ["dog", "sofa"],
        "attributes": [{"attribute": "black", "object": "dog"}],
        "status": OK,
        "error": None,
        "raw": " black dog; sofa",
    }
    assert table["objects"].to_pylist()[1:] == [[], [], []]
    assert table["attributes"].to_pylist()[1:] == [[], [], []]
    assert table["status"].to_pylist() == [OK, EMPTY, FAILED, OK]
    assert table["error"].to_pylist() == [None, "no word in it", "line 3: not UTF-8", None]


def test_an_answer_too_few_is_an_error_and_no_shorter_table():
    with pytest.raises(pa.ArrowInvalid):
        tags_table([1, 2], ["a", "b"], [Parsed()])


def test_every_status_is_counted_also_those_that_nobody_has():
    assert count_statuses(PARSED) == {OK: 2, EMPTY: 1, TOO_LONG: 0, FAILED: 1}


def test_results_do_not_share_their_lists():
    one, other = Parsed(), Parsed()
    one.objects.append("dog")
    assert other.objects == []
