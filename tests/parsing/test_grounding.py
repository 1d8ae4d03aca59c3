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
        " white: stove; kitchen;",
        " white: stove; -;",
        " -; kitchen;",
        " -; -;\n",
    ],
)
def test_an_answer_goes_through_the_caption_group_by_group(answer):
    assert admits("A white stove in a kitchen.", answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " white: stove;",  # stops half-way
        " white: oven; kitchen;",  # not in the caption
        " kitchen; white: stove;",  # jumps back
        " white: stove; stove; kitchen;",  # repeats
        " white stove; kitchen;",  # a colour describes
        " white; stove; kitchen;",  # what comes before a noun is no thing
        " white: stove; in; kitchen;",  # names nothing
        " white: stove; kitchen",  # not ended
    ],
)
def test_an_answer_may_not_invent_jump_repeat_or_stop(answer):
    assert not admits("A white stove in a kitchen.", answer)


def test_verbs_may_be_left_out_between_things():
    caption = "man holding knife"
    assert admits(caption, " man; knife;")
    assert not admits(caption, " man knife;")
    assert admits("wooden cutting board", " wooden: cutting board;")


def test_what_is_said_with_is_belongs_to_what_was_named_before():
    caption = "the door of the barn is dark red"
    assert admits(caption, " door; barn; dark red:;")
    assert read_answer(" door; barn; dark red:;", caption, FORM) == (
        ["door", "barn"],
        [("dark red", "barn")],
    )


def test_and_joins_adjectives_or_things():
    assert admits("a black and white cat", " black: white: cat;")
    assert admits("dogs, cats and birds", " dogs; cats; birds;")
    assert not admits("dogs, cats and birds", " dogs cats; birds;")


def test_scripts_without_spaces_are_grounded_character_by_character():
    assert admits("一只狗在草地上", " 狗; 草地;")
    assert not admits("一只狗在草地上", " 猫;")
    assert read_answer(" 狗; 草地;", "一只狗在草地上", FORM)[0] == ["狗", "草地"]


@pytest.mark.parametrize(
    "caption", ["", "  ", "😀🎉", "123 45", "?! ... ;;", "of the and", "\x00\x07"]
)
def test_a_caption_without_a_word_that_could_be_a_tag_has_no_expression(caption):
    assert answer_regex(caption, FORM) is None


def test_an_answer_that_was_cut_off_loses_its_last_item():
    caption = "a white stove in a kitchen"
    assert read_answer(" white: stove; kit", caption, FORM)[0] == ["stove"]
    assert read_answer(" white: stove; -", caption, FORM)[0] == ["stove"]


def test_words_that_the_caption_lacks_are_not_read():
    caption = "a stove in a kitchen"
    assert read_answer(" red: stove; oven; kitchen;", caption, FORM) == (["kitchen"], [])
