"""Words are found in any script, and a text is known to be made of a caption's words or not."""

import pytest

from parsing.normalise import Normaliser
from parsing.words import Grounding, joined, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the man's t-shirt, 3 o'clock!", ["the", "man", "s", "t-shirt", "3", "o'clock"]),
        ("m&m's & co.", ["m&m", "s", "co"]),
        ("काली बिल्ली", ["काली", "बिल्ली"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("猫がいる", ["猫", "が", "い", "る"]),
        ("שָׁלוֹם עוֹלָם", ["שָׁלוֹם", "עוֹלָם"]),
        ("iPhone手机壳", ["iPhone", "手", "机", "壳"]),
        ("🎉 !?", []),
    ],
)
def test_words_keep_their_marks_and_lose_punctuation(text, found):
    assert words(text) == found


def test_words_are_joined_as_their_scripts_join_them():
    assert joined(["red", "car"]) == "red car"
    assert joined(["红", "色"]) == "红色"
    assert joined(["iPhone", "手", "机"]) == "iPhone 手机"


def test_grounding_needs_every_word_and_knows_halves_and_joins():
    grounding = Grounding("A snow-covered tea cup on RED snow", lambda word: word)
    assert grounding.admits("snow")
    assert grounding.admits("teacup")
    assert grounding.admits("covered cup")
    assert not grounding.admits("red table")
    assert not grounding.admits("")


@pytest.mark.parametrize(
    ("caption", "tag", "admitted"),
    [
        ("two surf boards", "surfboard", True),
        ("a t shirt", "t-shirt", True),
        ("a tshirt", "t-shirt", True),
        ("a hotdog bun", "hot dog bun", True),
        ("a two-lane street", "two lane street", True),
        ("a hot pan and a dog", "hotdog", False),
        ("a hotdog", "hot dog bun", False),
        ("a hotdog", "hot", False),
        ("a cup of tea", "teacup", False),
    ],
)
def test_compounds_are_known_however_they_are_written(caption, tag, admitted):
    assert Grounding(caption, Normaliser().singular).admits(tag) == admitted


def test_characters_without_spaces_must_stand_side_by_side():
    grounding = Grounding("红色汽车")
    assert grounding.admits("汽车")
    assert not grounding.admits("红车")
