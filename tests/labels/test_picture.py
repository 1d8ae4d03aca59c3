from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest
from matplotlib import image

from labels.picture import draw
from labels.vocabulary import Vocabulary


def _ranked(objects: int, attributes: int) -> dict[str, pl.DataFrame]:
    def table(size):
        counts = (1000 // np.arange(1, size + 1)).astype(np.int64)
        return pl.DataFrame({"tag": [f"tag {i}" for i in range(size)], "count": counts})

    return {"object": table(objects), "attribute": table(attributes)}


@pytest.mark.parametrize(("objects", "attributes", "panels"), [(300, 40, 3), (1, 1, 3), (50, 0, 2)])
def test_one_panel_per_kind_that_has_tags_and_the_tail(objects, attributes, panels):
    vocabulary = Vocabulary(["tag 0"], ["object"], np.array([1000]), 2000)
    png = draw(_ranked(objects, attributes), 2000, vocabulary)
    height, width, _ = image.imread(io.BytesIO(png)).shape
    assert round(width / height / (5.2 / 6.4)) == panels


def test_tags_that_mean_something_to_the_typesetter_are_drawn_as_they_are(recwarn):
    tags = ["$x^", "_$", "日本", "a\nb", "\\frac", "y" * 10_000]
    ranked = {"object": pl.DataFrame({"tag": tags, "count": [9, 8, 7, 6, 5, 4]})}
    vocabulary = Vocabulary(tags, ["object"] * 6, np.array([9, 8, 7, 6, 5, 4]), 9)
    assert draw(ranked, 9, vocabulary).startswith(b"\x89PNG")
    assert [str(w.message) for w in recwarn] == []


def test_the_same_tags_give_the_same_bytes():
    vocabulary = Vocabulary(["tag 0"], ["object"], np.array([1000]), 2000)
    assert draw(_ranked(9, 9), 2000, vocabulary) == draw(_ranked(9, 9), 2000, vocabulary)
