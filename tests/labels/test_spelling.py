"""Two spellings of one tag have one key, and other words have others."""

from __future__ import annotations

import pytest

from labels.spelling import singulars, spelling_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("grey", "gray"), ("grey cat", "gray cat"), ("t-shirt", "tee shirt"), ("tshirt", "t shirt"),
        ("red tee-shirt", "red t-shirt"), ("theatre seat", "theater seat"), ("harbour", "harbor"),
        ("coloured", "colored"), ("personalised", "personalized"), ("catalogue", "catalog"),
        ("travelled", "traveled"), ("panelling", "paneling"), ("woollen", "woolen"),
        ("licence plate", "license plate"), ("archaeological site", "archeological site"),
        ("teacup", "tea cup"), ("tea-cup", "tea cup"), ("v neck", "v-neck"), ("xray", "x-ray"),
    ],
)  # fmt: skip
def test_spellings_of_one_word_have_one_key(one, other):
    assert spelling_key(one) == spelling_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("flour", "floor"), ("tour", "tor"), ("filled", "filed"), ("acre", "acer"), ("pour", "por"),
        ("size", "sise"), ("tee", "t-shirt"), ("golf tee", "golf t-shirt"), ("killer", "kiler"),
        ("汽车", "车"), ("hour", "hor"), ("star k", "stark"), ("t-rain", "train"),
    ],
)  # fmt: skip
def test_other_words_have_other_keys(one, other):
    assert spelling_key(one) != spelling_key(other)


@pytest.mark.parametrize(
    ("tag", "single"),
    [
        ("cacti", ["cactus"]), ("insect larvae", ["insect larva"]), ("plateaux", ["plateau"]),
        ("quokkas", ["quokka"]), ("lexi", []), ("glasses", []), ("canvas", []), ("jeans", []), ("dog", []),
    ],
)  # fmt: skip
def test_plurals_that_dictionaries_miss_are_known(tag, single):
    assert singulars(tag) == single
