from __future__ import annotations

import pytest

from training.tag_check.binding import bind


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
    assert bind(caption, objects, attributes) == bound
