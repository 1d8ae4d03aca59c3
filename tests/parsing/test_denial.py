"""What a caption denies is no tag; what it also says without a negation is one."""

from __future__ import annotations

import time

import pytest

from parsing.denial import without_denied
from parsing.normalise import Normaliser


@pytest.fixture(scope="module")
def normaliser() -> Normaliser:
    return Normaliser()


def kept(normaliser: Normaliser, caption: str, objects: str, attributes: str = "") -> str:
    """Tags as `object object attribute:object`, those that stay likewise."""
    pairs = [tuple(pair.split(":")) for pair in attributes.split()]
    names, pairs = without_denied(caption, objects.split(), pairs, normaliser.singular)
    return " ".join([*names, *(f"{attribute}:{name}" for attribute, name in pairs)])


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "left"),
    [
        ("the door is not red", "door", "red:door", "door"),
        ("the door isn't red", "door", "red:door", "door"),
        ("The door isn’t very red.", "door", "red:door", "door"),
        ("a house that was never white", "house", "white:house", "house"),
        ("the shoe is not red or blue", "shoe", "red:shoe blue:shoe", "shoe"),
        ("the shoe is not red but blue", "shoe", "red:shoe blue:shoe", "shoe blue:shoe"),
        ("the wall is no longer blue", "wall", "blue:wall", "wall"),
        ("a no longer used station", "station", "used:station", "station"),
        ("a neither red nor blue car", "car", "blue:car", "car"),
        ("neither red nor blue car", "car", "red:car blue:car", "car"),
        ("the sky isnt blue", "sky", "blue:sky", "sky"),
    ],
)
def test_a_denied_state_is_no_attribute(normaliser, caption, objects, attributes, left):
    assert kept(normaliser, caption, objects, attributes) == left


@pytest.mark.parametrize(
    ("caption", "objects", "left"),
    [
        ("an empty street with no people", "street people", "street"),
        ("No cars on the road", "car road", "road"),
        ("a man without a hat", "man hat", "man"),
        ("a beach without umbrellas or chairs and a dog", "beach umbrella chair dog", "beach dog"),
        ("a man with neither a hat nor a coat", "man hat coat", "man"),
        ("a street with no cars, a man walks", "street car man", "street man"),
        ("this is not a dog but a cat", "dog cat", "cat"),
        ("not a dog but a cat", "dog cat", "cat"),
        ("it's not a dog", "dog", ""),
        ("a dog that doesn't have a tail", "dog tail", "dog"),
        ("no sign of snow on the hill", "sign snow hill", "hill"),
        ("a room free of furniture", "room furniture", "room"),
        ("a table devoid of plates and a lamp", "table plate lamp", "table lamp"),
        ("an empty street lacking trees or cars", "street tree car", "street"),
        ("a wall that lacks a door", "wall door", "wall"),
        ("the absence of people on a beach", "people beach", "beach"),
        ("a shirtless man not wearing shoes", "man shoe", "man"),
        ("neither cars nor parked bikes", "car bike", ""),
        ("guitar ,no amp,would swap for bass", "guitar amp bass", "guitar bass"),
    ],
)
def test_an_absent_thing_is_no_object(normaliser, caption, objects, left):
    assert kept(normaliser, caption, objects) == left


def test_the_attributes_of_an_absent_thing_go_with_it(normaliser):
    tags = ("a man without a red hat beside a red car", "man hat car", "red:hat red:car")
    assert kept(normaliser, *tags) == "man car red:car"


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("a man with a hat and a man without a hat", "man hat"),
        ("people with and without hats", "hat"),
        ("a no smoking sign on a wall", "smoking sign wall"),
        ("a do not enter sign", "sign"),
        ("No. 7: a car", "car"),
        ("No 7 a car", "car"),
        ("not only a dog but a cat", "dog cat"),
        ("this is not only a dog but a cat", "dog cat"),
        ("a never ending road", "road"),
        ("not your average dog", "dog"),
        ("do not disturb door hanger", "door hanger"),
        ("a booklet free of charge", "charge booklet"),
        ("a free plant in front of an elephant", "plant elephant"),
        ("a don't panic mug", "mug"),
        ("you can't sit with us hoodie", "hoodie"),
        ("a knot of a notary in the north", "knot notary north"),
    ],
)
def test_what_is_said_without_a_negation_or_only_looks_like_one_stays(normaliser, caption, objects):
    assert kept(normaliser, caption, objects) == objects


def test_every_parser_s_tags_pass_through_it(normaliser):
    """The LLM's by the normaliser, and only where a caption is English."""
    tags = normaliser.tags("the door is not red", ["door"], [("red", "door")])
    assert tags == (["door"], [])
    assert normaliser.tags("la casa no verde grande", ["casa", "verde"], [])[0] == ["casa", "verde"]


def test_a_long_caption_of_negations_takes_linear_time(normaliser):
    began = time.monotonic()
    for caption in ("no " * 5_000, "no a of " * 3_000, "not red or " * 3_000):
        kept(normaliser, caption, "dog")
    assert time.monotonic() - began < 10  # hours, where a caption is searched again and again
