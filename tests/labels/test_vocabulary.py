from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from labels.vocabulary import Vocabulary, check_columns, vocabulary_text
from parsing.tags import TAGS


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(
        ["dog", "red", "red"], ["object", "object", "attribute"], np.array([5, 3, 2]), 10
    )


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["object", "attribute"]),
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.integers(0, 2**40),
        ),
        unique_by=lambda row: row[:2],
    )
)
def test_json_and_parquet_forms_give_the_same_vocabulary_back(rows):
    kinds, tags, counts = zip(*rows, strict=True) if rows else ((), (), ())
    before = Vocabulary(list(tags), list(kinds), np.array(counts, dtype=np.int64), 2**40)
    assert Vocabulary.from_json(before.to_json(), "x") == before
    assert Vocabulary.from_table(before.table(), "x") == before


def test_an_object_and_an_attribute_of_one_word_are_two_tags(vocabulary):
    assert vocabulary.ids("object").tolist() == [0, 1]
    assert vocabulary.ids("attribute").tolist() == [2]
    assert vocabulary.frequencies.tolist() == [0.5, 0.3, 0.2]


def test_a_vocabulary_of_another_tool_says_how_many_captions_it_counted(vocabulary):
    plain = vocabulary.table().replace_schema_metadata(None)
    assert Vocabulary.from_table(plain, "x").captions == 10


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("tag_id", [0, 2, 1], "'tag_id' of the vocabulary x does not count"),
        ("kind", ["object", "object", "verb"], "'verb', which is neither"),
        ("kind", ["object", "object", "object"], "same tag and kind twice"),
        ("tag", ["dog", None, "red"], "'tag' of the vocabulary x holds nulls"),
        ("count", ["5", "3", "2"], "column 'count' of x holds string, not int64"),
    ],
)
def test_a_wrong_column_is_named(vocabulary, column, values, message):
    table = vocabulary.table().replace_schema_metadata(None)
    table = table.set_column(table.schema.get_field_index(column), column, pa.array(values))
    with pytest.raises(UserError, match=message):
        Vocabulary.from_table(table, "x")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"tags": ["a"], "kinds": [], "counts": [1], "captions": 1}']
)
def test_damaged_json_is_one_sentence(text):
    with pytest.raises(UserError, match="x"):
        Vocabulary.from_json(text, "x")


def test_any_difference_changes_the_fingerprint(vocabulary):
    v = vocabulary
    others = [
        Vocabulary(["dog", "blue", "red"], v.kinds, v.counts, 10),
        Vocabulary(v.tags, ["object", "attribute", "object"], v.counts, 10),
        Vocabulary(v.tags, v.kinds, np.array([5, 3, 1]), 10),
        Vocabulary(v.tags, v.kinds, v.counts, 11),
    ]
    assert len({v.fingerprint, *(o.fingerprint for o in others)}) == 5


def test_the_text_keeps_one_line_per_tag_whatever_is_in_it():
    v = Vocabulary(["a\nb", "tab\there", "é"], ["object"] * 3, np.array([3, 2, 1]), 4)
    lines = vocabulary_text(v).splitlines()
    assert lines[0].split("\t") == ["tag_id", "kind", "count", "frequency", "tag"]
    assert [line.split("\t")[-1] for line in lines[1:]] == ["a\\nb", "tab\\there", "é"]


def test_large_and_view_types_pass_as_the_contract_s_own():
    large = pa.schema(
        [
            ("caption_id", pa.int32()),
            ("caption", pa.large_string()),
            ("objects", pa.large_list(pa.string_view())),
            ("attributes", pa.large_list(pa.struct([("attribute", pa.large_string()), ("object", pa.string())]))),
            ("status", pa.string()),
            ("error", pa.string()),
            ("raw", pa.string()),
        ]
    )  # fmt: skip
    check_columns(large, TAGS, "x")
    with pytest.raises(UserError, match="'attributes' of x holds"):
        check_columns(large.set(3, pa.field("attributes", pa.list_(pa.string()))), TAGS, "x")
    with pytest.raises(UserError, match="no column 'raw'"):
        check_columns(large.remove(6), TAGS, "x")
