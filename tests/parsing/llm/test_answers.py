"""The reader takes answers as models write them, and keeps nothing that the caption doesn't say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsing.llm.answers import Form, read_answer, write_answer
from parsing.normalise import Normaliser

FORM = Form()
CAPTION = "A young girl sits on a wooden bed with her two cats"


def read(text, caption=CAPTION, **options):
    answer = read_answer(text, caption, FORM, **options)
    return answer.objects, answer.attributes


@pytest.mark.parametrize(
    "text",
    [
        " young: girl; wooden: bed; two: cats;",
        "young: girl; wooden: bed; two: cats",  # the last mark is missing
        "Objects:\n- young: girl\n- wooden: bed\n- two: cats",
        "1. young: girl\n2. wooden: bed\n3. two: cats\n",
        "* girl (young)\n* bed (wooden)\n* cats (two)",
        "girl (young), bed (wooden), cats (two)",
        "young: girl; wooden: bed; two: cats; none",
        "young：girl；wooden：bed；two：cats",
    ],
)
def test_one_answer_in_many_shapes_is_read_alike(text):
    assert read(text) == (
        ["girl", "bed", "cats"],
        [("young", "girl"), ("wooden", "bed"), ("two", "cats")],
    )


@pytest.mark.parametrize("text", ["-", " -;", "", "none", "Nothing.", "n/a", "- \n"])
def test_an_answer_that_names_nothing_drops_nothing(text):
    answer = read_answer(text, CAPTION, FORM)
    assert (answer.objects, answer.attributes, answer.dropped) == ([], [], 0)


def test_brackets_may_hold_several_attributes():
    assert read("bed (wooden, young), cats", "a young wooden bed and cats") == (
        ["bed", "cats"],
        [("wooden", "bed"), ("young", "bed")],
    )


def test_what_the_caption_lacks_is_dropped_and_counted():
    answer = read_answer("old: girl; red: sofa; wooden: bed;", CAPTION, FORM)
    assert answer.objects == ["girl", "bed"]
    assert answer.attributes == [("wooden", "bed")]
    assert answer.dropped == 3  # old, and the red sofa with its attribute


def test_the_singular_of_a_word_of_the_caption_is_kept():
    singular = Normaliser().singular
    assert read("cat; girl", singular=singular) == (["cat", "girl"], [])
    assert read("kitten", singular=singular) == ([], [])


def test_the_last_item_of_a_cut_answer_is_left_out():
    assert read("young: girl; wooden: be", complete=False) == (["girl"], [("young", "girl")])
    assert read("young: gi", complete=False) == ([], [])


def test_several_attributes_and_repeated_objects_are_joined():
    assert read("young: girl; wooden, two: bed; girl;") == (
        ["girl", "bed"],
        [("young", "girl"), ("wooden", "bed"), ("two", "bed")],
    )


@pytest.mark.parametrize(
    ("caption", "text", "objects", "attributes"),
    [
        ("ein brauner Hund am Strand", "brauner: Hund; Strand", ["Hund", "Strand"], [("brauner", "Hund")]),
        ("dos perros negros en la montaña", "negros: perros; montaña", ["perros", "montaña"], [("negros", "perros")]),
        ("काली बिल्ली सो रही है", "काली: बिल्ली", ["बिल्ली"], [("काली", "बिल्ली")]),
        ("แมวสีดำบนโต๊ะไม้", "สีดำ: แมว; ไม้: โต๊ะ", ["แมว", "โต๊ะ"], [("สีดำ", "แมว"), ("ไม้", "โต๊ะ")]),
        ("红色的汽车停在大树下", "红色：汽车；大树", ["汽车", "大树"], [("红色", "汽车")]),
    ],
)  # fmt: skip
def test_words_of_any_script_are_known_by_the_caption(caption, text, objects, attributes):
    assert read(text, caption) == (objects, attributes)
    answer = read_answer("狗; собака; hund1", caption, FORM)
    assert (answer.objects, answer.dropped) == ([], 3)


@given(st.text(), st.text())
def test_whatever_comes_is_read_and_uses_the_captions_words_alone(text, caption):
    answer = read_answer(text, caption, FORM)
    again = read_answer("; ".join(answer.objects), caption, FORM)
    assert again.dropped == 0
    assert {name for _, name in answer.attributes} <= set(answer.objects)


def test_a_training_answer_follows_the_captions_order_and_spelling():
    same = Normaliser().singular
    answer = write_answer(
        CAPTION.replace("girl", "Girl"),
        ["cat", "girl", "bed"],
        [("two", "cat"), ("wooden", "bed"), ("young", "girl")],
        FORM,
        lambda word: same(word.casefold()),
    )
    assert answer == "young: Girl; wooden: bed; two: cats"


@pytest.mark.parametrize(
    ("caption", "tag", "answer"),
    [
        ("A Cell Phone on a desk", "cellphone", "cellphone"),
        ("two surf boards", "surfboards", "surfboards"),
        ("a tshirt", "t-shirt", "t-shirt"),
        ("a Hotdog", "hot dog", "hot dog"),
        ("a tea cup and a Teacup", "teacup", "Teacup"),  # the same words win
        ("a dog in a hot car", "hotdog", "-"),
    ],
)
def test_a_training_answer_writes_compounds_as_the_tags_do(caption, tag, answer):
    """So that one thing gets one tag where the tags are consistent and captions are not."""
    assert write_answer(caption, [tag], [], FORM) == answer
    if answer != "-":
        assert read_answer(answer, caption, FORM).objects == [answer]


def test_a_training_answer_compares_attributes_in_their_own_form():
    wooden = {"wood": "wooden"}
    answer = write_answer(
        "a wood table made of oak",
        ["table", "oak"],
        [("wooden", "table")],
        FORM,
        same_attribute=lambda word: wooden.get(word, word),
    )
    assert answer == "wood: table; oak"


def test_a_training_answer_leaves_out_what_the_caption_lacks():
    assert (
        write_answer(CAPTION, ["dog", "girl"], [("tall", "girl"), ("big", "dog")], FORM) == "girl"
    )
    assert write_answer(CAPTION, ["dog"], [], FORM) == "-"


def test_an_attribute_is_taken_from_the_place_nearest_to_its_object():
    caption = "a red hat, a man and a red car"
    assert write_answer(caption, ["car"], [("red", "car")], FORM) == "red: car"
    assert read("red: car", caption) == (["car"], [("red", "car")])


def test_tags_keep_their_own_words_through_writing_reading_and_normalising():
    for caption, objects, attributes in [
        ("काली बिल्ली और लाल कुर्सी", ["बिल्ली", "कुर्सी"], [("काली", "बिल्ली"), ("लाल", "कुर्सी")]),
        ("ถนนในเมืองกับแมวสีดำ", ["ถนน", "แมว"], [("สีดำ", "แมว")]),
        ("un jardín con flores rojas y árboles", ["jardín", "flores", "árboles"], [("rojas", "flores")]),
        ("zwei alte Häuser am Fluss", ["häuser", "fluss"], [("zwei", "häuser"), ("alte", "häuser")]),
        ("两只黑色的猫在木桌上", ["猫", "木桌"], [("黑色", "猫")]),
    ]:  # fmt: skip
        text = write_answer(caption, objects, attributes, FORM)
        answer = read_answer(text, caption, FORM)
        assert Normaliser().tags(caption, answer.objects, answer.attributes) == (
            objects,
            attributes,
        )
