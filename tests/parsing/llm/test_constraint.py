"""The constraint admits runs of the caption's words in the answer's form, in any script."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from parsing.llm.answers import Form, read_answer
from parsing.llm.constraint import LONGEST, words_regex

FORM = Form()
CAPTION = "A white stove in a kitchen."


def admits(caption, answer, form=FORM):
    return regex.fullmatch(words_regex(caption, form), answer) is not None


@pytest.mark.parametrize(
    "answer",
    [
        " white: stove; kitchen;",
        " white: stove; kitchen",
        " kitchen; white stove;\n",  # any order, any run
        " -",
        " A white stove in a kitchen",
    ],
)
def test_runs_of_the_captions_words_are_admitted(answer):
    assert admits(CAPTION, answer)


@pytest.mark.parametrize(
    "answer",
    ["", " oven;", " white kitchen;", " white: stove; -;", " stove;;", "stove", " Stove", " kitchen white"],
)  # fmt: skip
def test_other_words_other_runs_and_other_forms_are_not(answer):
    assert not admits(CAPTION, answer)


@pytest.mark.parametrize(
    ("caption", "answer"),
    [
        ("काली बिल्ली", " काली: बिल्ली;"),
        ("แมวสีดำ", " สีดำ: แมว;"),
        ("红色的汽车", " 红色: 汽车"),
        ("ein T-Shirt (rot)", " rot: T-Shirt;"),
        ("c++ *books* [new]", " new: books;"),
    ],
)
def test_scripts_and_special_characters(caption, answer):
    assert admits(caption, answer)
    assert read_answer(answer, caption, FORM).dropped == 0


def test_a_caption_without_words_has_no_expression():
    assert words_regex("!!! 🎉", FORM) is None


def test_the_expression_grows_with_the_caption_and_not_with_its_square():
    one, two = (
        len(words_regex(" ".join(f"w{n}" for n in range(count)), FORM)) for count in (50, 100)
    )
    assert two < 2.3 * one
    assert admits("a b c d e f g h", f" {' '.join('abcdefgh'[:LONGEST])};")
    assert not admits("a b c d e f g h", f" {' '.join('abcdefgh'[: LONGEST + 1])};")


@given(
    st.text(alphabet=st.characters(categories=["L", "M", "N", "P", "Zs"]), min_size=1), st.data()
)
def test_every_run_of_words_reads_back_without_a_drop(caption, data):
    from parsing.words import joined, words

    found = words(caption)
    if found:
        start = data.draw(st.integers(0, len(found) - 1))
        end = data.draw(st.integers(start + 1, min(start + LONGEST, len(found))))
        text = joined(found[start:end])
        assert admits(caption, f" {text};")
        assert read_answer(f" {text};", caption, FORM).dropped == 0
