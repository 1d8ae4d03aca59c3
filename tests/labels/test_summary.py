from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from labels.counting import COUNTS
from labels.summary import Coverage, LabelCounts, summarise
from labels.vocabulary import Vocabulary


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=20), min_size=1), st.integers(1, 100)
)
def test_percentiles_are_those_of_all_rows(parts, percent):
    counts = LabelCounts()
    for lengths in parts:
        counts.add(pa.array([[0] * n for n in lengths], pa.list_(pa.int32())))
    everything = np.array([n for lengths in parts for n in lengths])
    expected = np.percentile(everything, percent, method="inverted_cdf")
    assert counts.percentile(percent) == expected
    assert counts.rows == len(everything)
    assert counts.empty == (everything == 0).sum()
    assert np.isclose(counts.mean, everything.mean())


def test_a_word_of_two_kinds_is_covered_kind_by_kind():
    tags = pl.DataFrame(
        [("object", "orange", 6), ("attribute", "orange", 4), ("object", "cup", 10)],
        COUNTS,
        orient="row",
    )
    one = Coverage(Vocabulary(["orange"], ["attribute"], np.array([4]), 12))
    one.captions.add(pa.array([[0], []], pa.list_(pa.int32())))
    text = " ".join(summarise(tags, 3, [one]).split())
    assert "covers 20.00% of all tags 50.00% of the captions" in text
    assert "(3 could not be parsed)" in text
