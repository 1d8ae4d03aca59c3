from __future__ import annotations

import pytest

from training.tag_check.binding import Mentions, bind


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "bound"),
    [
        ("a red ball", ["ball"], ["red"], {"red": ["ball"]}),
        ("The ball is red", ["ball"], ["red"], {"red": ["ball"]}),
        ("two red balls and a blue hat", ["ball", "hat"], ["red", "blue", "two"],
         {"red": ["ball"], "blue": ["hat"], "two": ["ball"]}),
        ("a red ball beside a red hat", ["ball", "hat"], ["red"], {"red": ["ball", "hat"]}),
        ("ball red hat", ["ball", "hat"], ["red"], {"red": ["hat"]}),  # the later of two as near
        ("a golden retriever", ["golden retriever"], ["golden"], {"golden": ["golden retriever"]}),
        ("pelota roja", ["pelota"], ["roja"], {"roja": ["pelota"]}),
        ("a ball", ["ball"], ["red"], {"red": []}),  # not said
        ("red one two three four five ball", ["ball"], ["red"], {"red": []}),  # too far
        ("", ["ball"], ["red"], {"red": []}),
    ],
)  # fmt: skip
def test_an_attribute_belongs_to_the_nearest_object(caption, objects, attributes, bound):
    assert bind(Mentions(caption), objects, attributes) == bound


@pytest.mark.parametrize(
    ("tag", "places"),
    [
        ("ball", [(2, 3), (5, 6)]),  # also where the caption has the plural
        ("red ball", [(1, 3)]),
        ("hat", []),
        ("balls to", []),
        ("", []),
    ],
)
def test_a_tag_is_found_wherever_its_words_follow_each_other(tag, places):
    assert Mentions("Two red balls and a Ball").places(tag) == places
