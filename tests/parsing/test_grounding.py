"""No answer that the expression admits can name what its caption doesn't, and each can be read."""

import pytest
import regex

from parsing.grounding import Form, answer_regex, read_answer

FORM = Form()


def admits(caption, answer, form=FORM):
    return regex.fullmatch(answer_regex(caption, form), answer) is not None


@pytest.mark.parametrize(
    "answer",
    [
        " none",
        " white:stove; kitchen;",
        " stove;",
        " kitchen;",
        " white:stove; kitchen;\n",
    ],
)
def test_an_answer_may_pick_any_of_the_caption_s_words_in_order(answer):
    assert admits("A white stove in a kitchen.", answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " oven;",  # not in the caption
        " kitchen; white:stove;",  # jumps back
        " stove; stove;",  # repeats
        " white stove kitchen;",  # not next to each other
        " in;",  # names nothing
        " stove",  # not ended
        " black:stove;",
    ],
)
def test_an_answer_may_not_invent_jump_or_repeat(answer):
    assert not admits("A white stove in a kitchen.", answer)


def test_what_is_said_with_is_may_be_an_attribute():
    assert admits("the door of the barn is red", " red:door; barn;")
    assert read_answer(" red:door; barn;", "the door of the barn is red", FORM) == (
        ["door", "barn"],
        [("red", "door")],
    )


@pytest.mark.parametrize(
    "caption", ["", "  ", "😀🎉", "123 45", "?! ... ;;", "of the and", "\x00\x07"]
)
def test_a_caption_without_a_word_that_could_be_a_tag_has_no_expression(caption):
    assert answer_regex(caption, FORM) is None


def test_an_answer_that_was_cut_off_loses_its_last_item():
    assert read_answer(" white:stove; kit", "a white stove in a kitchen", FORM)[0] == ["stove"]


def test_words_that_the_caption_lacks_are_not_read():
    assert read_answer(" red:stove; oven; kitchen;", "a stove in a kitchen", FORM) == (
        ["kitchen"],
        [],
    )
