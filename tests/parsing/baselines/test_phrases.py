"""A noun phrase's tags: which word is the object, which are its attributes, and which are neither."""

import pytest

from parsing.baselines.phrases import Phrases, Words
from parsing.tags import Parsed


@pytest.fixture(scope="module")
def phrases():
    return Phrases()


def test_every_word_of_the_classes_is_a_lower_case_word():
    for words in Words().values():
        assert words
        assert all(isinstance(word, str) and word == word.lower() for word in words)


def test_a_shade_and_the_colour_after_it_are_one_attribute(phrases):
    parsed = Parsed(["car"])
    phrases.describe(parsed, ["dark", "blue", "shiny", "dark"], "car")
    assert parsed.attributes == [("dark blue", "car"), ("shiny", "car"), ("dark", "car")]


@pytest.mark.parametrize(
    ("nouns", "placed", "of", "objects"),
    [
        (["side"], True, False, []),
        (["side"], False, True, []),
        (["groups"], False, True, []),
        (["group"], False, False, ["group"]),
        (["mountain", "top"], False, False, ["mountain"]),
        (["stone", "wall"], True, False, ["wall"]),
    ],
)
def test_quantities_and_places_name_no_thing_of_their_own(phrases, nouns, placed, of, objects):
    parsed = Parsed()
    thing = phrases.add(parsed, [], nouns, placed, of)
    assert parsed.objects == objects
    assert thing == (objects[0] if objects else None)
