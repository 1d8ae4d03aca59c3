"""The page of a vocabulary: what is in it, how large it gets, and how it answers in a browser."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest

from labels.near_duplicates import NearDuplicate
from labels.vocabulary import Vocabulary
from labels.vocabulary_examples import Examples
from labels.vocabulary_page import vocabulary_page

TAGS = ["dog", "cat", "t-shirt", "tshirt", "red", "wet"]
KINDS = ["object"] * 4 + ["attribute"] * 2
COUNTS = [50, 70, 9, 3, 40, 8]
NASTY = "</script><script>window.hurt = 1</script> 🐕 a Dog & a <b>cat</b>"


def _ranked(extra: int = 2) -> dict[str, pl.DataFrame]:
    def table(kind: str) -> pl.DataFrame:
        own = [(t, c) for t, k, c in zip(TAGS, KINDS, COUNTS, strict=True) if k == kind]
        rows = sorted(own, key=lambda row: -row[1]) + [(f"rare {i}", 1) for i in range(extra)]
        return pl.DataFrame(rows, schema=["tag", "count"], orient="row")

    return {"object": table("object"), "attribute": table("attribute")}


def _page(**changes) -> bytes:
    place = NASTY.index("Dog")
    examples = Examples(
        {("object", "dog"): [(NASTY, [(place, place + 3)]), ("no mark", [])]},
        {("object", "dog"): [("wet", 6, 3.5)], ("attribute", "wet"): [("dog", 6, 3.5)]},
    )
    settings = {
        "title": "my <tags>",
        "vocabulary": Vocabulary(TAGS, KINDS, np.array(COUNTS), captions=100),
        "ranked": _ranked(),
        "examples": examples,
        "near": [NearDuplicate("spelling", 2, 3), NearDuplicate("meaning", 0, 1, 0.91)],
    }
    return vocabulary_page(**settings | changes)


def _data(page: bytes) -> dict:
    return json.loads(re.search(rb'id="data">(.*?)</script>', page, re.S)[1])


def test_the_data_of_a_page_are_whole_and_cannot_leave_their_element():
    data = _data(_page())
    assert data["texts"] == [NASTY, "no mark"]
    assert data["goes"] == {"0": [[5, 6, 3.5]], "5": [[0, 6, 3.5]]}
    assert data["left"][0] == {
        "tags": ["rare 0", "rare 1"], "counts": [1, 1], "distinct": 2, "mentions": 2, "all": 134,
    }  # fmt: skip


def test_a_page_needs_nothing_from_outside():
    assert not re.search(rb"https?://|src=|@import|url\(", _page())


def test_a_large_vocabulary_leaves_out_examples_before_it_is_too_large():
    n = 20_000
    tags = [f"a tag of some length, number {i}" for i in range(n)]
    captions = {
        ("object", tag): [(f"{tag} in a caption, {j}: " + "x" * 190, [(0, 3)]) for j in range(12)]
        for tag in tags[:2_000]
    }
    vocabulary = Vocabulary(tags, ["object"] * n, np.arange(n, 0, -1), captions=n)
    page = _page(vocabulary=vocabulary, examples=Examples(captions, {}), near=[])
    assert 2_000_000 < len(page) <= 8_000_000
    data = _data(page)
    assert len(data["tags"]) == n
    assert len(data["shown"]["0"]) > 1
    small = _page(
        vocabulary=vocabulary, examples=Examples(captions, {}), near=[], most_bytes=1_500_000
    )
    assert len(small) <= 1_500_000
    assert len(_data(small)["tags"]) == n


@pytest.fixture
def tab(browser, tmp_path):
    """A tab that shows the page; a mistake in its script or a wish for a resource fails the test."""
    (tmp_path / "page.html").write_bytes(_page())
    tab = browser.new_page(viewport={"width": 375, "height": 700})
    errors, asked = [], []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "page.html").as_uri())
    yield tab
    assert errors == []
    assert all(url.startswith("file:") for url in asked)
    tab.close()


def _shown(tab) -> list[str]:
    return tab.locator("#rows tr td:first-child > :first-child").all_inner_texts()


def test_typing_searches_and_clicks_sort(tab):
    assert _shown(tab) == ["cat", "dog", "red", "t-shirt", "wet", "tshirt"]
    tab.click("[data-column=count]")
    assert _shown(tab)[0] == "tshirt"
    tab.click("[data-column=tag]")
    assert _shown(tab)[:3] == ["cat", "dog", "red"]
    tab.click("[data-column=tag]")
    assert _shown(tab)[0] == "wet"
    assert tab.get_attribute("th[aria-sort]", "aria-sort") == "descending"
    tab.type("#search", "SHIRT")
    assert set(_shown(tab)) == {"t-shirt", "tshirt"}
    tab.fill("#search", "no such tag")
    assert _shown(tab) == []
    assert tab.inner_text("#more") == "No tag matches."


def test_objects_attributes_duplicates_and_what_was_left_out_can_be_listed(tab):
    tab.click("[data-view='1']")
    assert _shown(tab) == ["red", "wet"]
    tab.click("[data-view=near]")
    assert _shown(tab) == ["cat", "tshirt"]
    assert "close in meaning to “dog” (50, cosine 0.91)" in tab.inner_text("#rows")
    tab.click("[data-view=left]")
    assert _shown(tab) == ["rare 0", "rare 1", "rare 0", "rare 1"]
    assert "2 objects (1.49% of all mentions)" in tab.inner_text("#note")


def test_a_tag_opens_with_its_companions_and_its_captions(tab):
    tab.click("#rows >> text=dog")
    assert tab.locator("#detail li").all_inner_texts() == [NASTY, "no mark"]
    assert tab.locator("#detail mark").all_inner_texts() == ["Dog"]
    assert tab.evaluate("window.hurt") is None
    tab.click("#detail .chips button >> text=wet")
    assert tab.inner_text("#detail h2").startswith("wet")
    tab.go_back()
    assert tab.inner_text("#detail h2").startswith("dog")
    tab.keyboard.press("Escape")
    assert tab.locator("#detail").is_hidden()


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_screen(tab, width):
    tab.set_viewport_size({"width": width, "height": 700})
    tab.click("#rows >> text=dog")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
