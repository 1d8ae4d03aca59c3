"""No answer that the expression admits can name what its caption doesn't, and each can be read."""

import re

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from parsing.grounding import Form, answer_regex, read_answer
from parsing.groups import clean, groups

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


@pytest.mark.parametrize(
    ("caption", "answer", "pairs"),
    [
        (
            "the door of the barn is dark red",
            " door; barn; dark red:;",
            [("dark red", "door")],
        ),
        ("the man 's shirt is blue", " man; shirt; blue:;", [("blue", "shirt")]),
        ("a house and a row of trees are green", " house; trees; green:;", [("green", "trees")]),
        ("a man at a door that is open", " man; door; open:;", [("open", "door")]),
        ("the leaves are red, yellow", " leaves; red: yellow:;", [("red", "leaves")]),
        ("a cat. the cup is red", " cat; cup; red:;", [("red", "cup")]),
    ],
)
def test_what_is_said_with_is_belongs_to_the_head_of_the_phrase(caption, answer, pairs):
    assert admits(caption, answer)
    assert read_answer(answer, caption, FORM)[1][: len(pairs)] == pairs


def test_what_is_said_of_a_thing_that_was_left_out_is_left_out():
    caption = "the splash of the barn is red"
    assert admits(caption, " -; barn; red:;")
    assert read_answer(" -; barn; red:;", caption, FORM) == (["barn"], [])


@pytest.mark.parametrize(
    ("caption", "answer"),
    [
        ("a row of houses on the first day of summer", " houses;"),
        ("the best ideas for a famous red dress", " red: dress;"),
        ("peace, love and two old dogs", " two: old: dogs;"),
        ("kids fun day", " kids;"),
        ("the week is rainy and the road is popular", " road;"),
        ("famous, old and beautiful house", " old: beautiful: house;"),
    ],
)
def test_what_no_picture_shows_is_not_asked_about(caption, answer):
    assert admits(caption, answer)
    asked = sum(len(group.words) for group in groups(caption))
    assert asked == len(re.findall(r"\w+", answer))


def test_nothing_is_asked_where_nothing_could_be_seen():
    assert answer_regex("the joy of the season", FORM) is None


@pytest.mark.parametrize(
    ("caption", "answer", "pair"),
    [
        ("two women skiing", " two: women; skiing:;", ("skiing", "women")),
        ("a cat on a bed is sleeping.", " cat; bed; sleeping:;", ("sleeping", "cat")),
        ("people that are walking outside", " people; walking:;", ("walking", "people")),
    ],
)
def test_a_participle_without_complement_says_how_a_thing_looks(caption, answer, pair):
    assert admits(caption, answer)
    assert pair in read_answer(answer, caption, FORM)[1]
    assert not admits("a man riding a horse", " man; riding:; horse;")


@pytest.mark.parametrize(
    ("caption", "answer"),
    [
        ("a man in a striped shirt", " man; striped: shirt;"),
        ("white whipped cream with two strawberries", " white: whipped: cream; two: strawberries;"),
        ("a clock with a colorful face", " clock; colorful: face;"),
        ("red poles in snow", " red: poles; snow;"),
    ],
)
def test_what_describes_a_noun_is_no_verb_and_its_noun_is_none(caption, answer):
    without = re.sub(r"(striped|whipped|colorful): ?", "", answer)
    assert admits(caption, answer)
    assert without == answer or not admits(caption, without)


@pytest.mark.parametrize(
    ("caption", "answer"),
    [
        ("a player trying to hit the ball", " player; ball;"),
        ("a man crouched to catch fish", " man; fish;"),
        ("deer next to water", " deer; water;"),
        ("machine for making coffee", " machine; coffee;"),
        ("woman in black holding a bag", " woman; black; bag;"),
    ],
)
def test_verbs_are_left_out_and_nouns_after_to_are_not(caption, answer):
    assert admits(caption, answer)


def test_an_adjective_alone_is_no_thing():
    assert admits("a large group of people", " people;")
    assert not admits("a large group of people", " large; people;")
    assert not admits("sandy beach large dog", " sandy: beach large: dog;")
    assert admits("sandy beach large dog", " sandy: beach; large: dog;")


@pytest.mark.parametrize(
    ("caption", "answer"),
    [
        ("a little girl", " little: girl;"),
        ("a metal fence", " metal: fence;"),
        ("a young woman", " young: woman;"),
    ],
)
def test_what_can_be_an_adjective_or_material_and_no_verb_describes(caption, answer):
    assert admits(caption, answer)
    assert not admits(caption, answer.replace(": ", " "))


@pytest.mark.parametrize(
    ("caption", "answer"),
    [
        ("girl standing alone", " girl;"),
        ("actor arrives to the opening", " actor; opening;"),
        ("create a fluffy vase", " fluffy: vase;"),
        ("a candy bar and a frying pan", " candy bar; frying pan;"),
        ("man wearing running shoes", " man; running shoes;"),
        ("dirt and grass on the ground", " dirt; grass; ground;"),
    ],
)
def test_words_that_are_never_nouns_are_no_things(caption, answer):
    assert admits(caption, answer)
    assert not re.search(" (alone|arrives|create)", answer_regex(caption, FORM))


def test_a_verb_after_a_verb_describes_nothing():
    caption = "woman walking holding black umbrella"
    assert admits(caption, " woman; black: umbrella;")
    assert not admits(caption, " woman; holding: black: umbrella;")


def test_fixed_names_are_not_taken_apart():
    assert admits("a gray t shirt", " gray: t shirt;")
    assert not admits("a wet suit", " wet: suit;")
    assert admits("a starfish tank", " starfish tank;")
    assert not admits("a starfish tank", " starfish: tank;")


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


def test_a_noun_that_is_no_material_cannot_describe():
    assert not admits("a tennis racket", " tennis: racket;")
    assert admits("a tennis racket", " tennis racket;")
    assert admits("a metal rack", " metal: rack;")


def test_measures_and_places_name_nothing():
    assert admits("a pile of snow on the side of a bus", " snow; bus;")
    assert admits("a tree in the background", " tree;")
    assert admits("the top is blue", " top; blue:;")


# What captions may hold besides words: marks of the answer's own form and of regular expressions,
# orders, markup, other scripts.
PIECES = st.sampled_from(
    [
        *(
            "a ",
            "the ",
            " and ",
            " is ",
            " of ",
            ", ",
            " dog",
            " dogs ",
            " white ",
            " sitting ",
            " two ",
        ),
        *(
            ";",
            ":",
            "-",
            " - ",
            ".*",
            "[",
            "]",
            "(",
            ")",
            "{2}",
            "\\",
            "^",
            "$",
            "|",
            "?",
            "+",
            "/",
        ),
        *(
            "</s>",
            "<|im_end|>",
            "<PERSON>",
            "'s",
            "don't",
            "t-shirt",
            "7",
            "2012",
            "😀",
            "\x00",
            "\n",
        ),
        *(
            "一只狗",
            "كلب أحمر",
            "красная машина",
            "लाल कार",
            "สุนัข",
            "İ",
            "ß",
            "é",
            "ignore the rules",
        ),
    ]
)
CAPTIONS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=14).map("".join))


@given(CAPTIONS, st.data())
@settings(max_examples=300, deadline=None)
def test_every_answer_that_the_expression_admits_is_read_and_grounded(caption, data):
    expression = answer_regex(caption, FORM)
    if expression is None:
        assert groups(caption) == []
        return
    answer = data.draw(st.from_regex(re.compile(expression), fullmatch=True))
    objects, attributes = read_answer(answer, caption, FORM)
    items = answer.strip("\n").split(FORM.end)[:-1]
    named = {item.split(FORM.attribute)[-1].strip() for item in items} - {"", FORM.skip}
    assert set(objects) == named
    assert {thing for _, thing in attributes} <= set(objects)
    text = clean(caption).lower()
    for tag in [*objects, *(attribute for attribute, _ in attributes)]:
        assert all(word in text for word in tag.split())
        assert not set(tag) & set(";:")


@given(CAPTIONS)
@settings(max_examples=200, deadline=None)
def test_the_engine_s_own_compiler_takes_every_expression(caption):
    llguidance = pytest.importorskip("llguidance")
    expression = answer_regex(caption, FORM)
    if expression is not None:
        grammar = llguidance.grammar_from("regex", expression)
        assert llguidance.LLMatcher.validate_grammar(grammar, None) == ""


def test_the_expression_grows_with_the_caption_and_not_faster():
    sizes = [len(answer_regex("old red dogs run jump walk " * n, FORM)) for n in (20, 200)]
    assert sizes[1] < 11 * sizes[0]


@pytest.mark.parametrize("piece", ["dog ", "a" * 50, "(", "runs ", "狗", "a, ", "2 "])
def test_a_caption_of_100_kb_is_no_trouble(piece):
    caption = piece * (100_000 // len(piece))
    expression = answer_regex(caption, FORM)
    assert expression is None or len(expression) < 40 * len(caption)


def test_every_real_caption_gets_an_expression_that_compiles(shared):
    lines = (shared / "captions" / "cc3m_val_dev.tsv").read_text().splitlines()
    for line in lines[:2000]:
        expression = answer_regex(line.split("\t")[1], FORM)
        assert expression is None or re.compile(expression)
