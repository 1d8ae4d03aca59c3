"""Tags of every parser come out in one form, and stay in it."""

import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from parsing.normalise import (
    RULES,
    Normaliser,
    Rules,
    default,
    normalise_attribute,
    normalise_object,
)

# Text that hits the rules more often than random letters do.
PIECES = st.sampled_from(
    [*"aAs'’-<>&_ .2é", "the ", " no ", "<PERSON>", "dogs", " photo", " stock", "images", "glasses"]
)
TEXT = st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=8).map("".join))


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("The Dogs", "dog"),
        ("a tennis racket", "tennis racket"),
        ("leaves", "leaf"),
        ("shelves", "shelf"),
        ("skies", "sky"),
        ("women", "woman"),
        ("firemen", "fireman"),
        ("feet", "foot"),
        ("buses", "bus"),
        ("bus", "bus"),
        ("glass", "glass"),
        ("tennis", "tennis"),
        ("poles", "pole"),
        ("christmas", "christmas"),
        ("gas", "gas"),
        ("iris", "iris"),
        ("people", "people"),
        ("t-shirts", "t-shirt"),
        ("ice-cream cones", "ice-cream cone"),
        ("countertops", "countertop"),
        ("painting", "painting"),
        ("frosting", "frosting"),
        ("toppings", "topping"),
        ("sports car", "sports car"),
        ("the woman's hats", "woman hat"),
        ("“quoted” chair.", "quoted chair"),
        ("cafe\u0301s", "café"),
    ],
)
def test_objects_are_lower_case_singular_and_without_determiner(text, tag):
    assert normalise_object(text) == tag


@pytest.mark.parametrize("word", ["jeans", "scissors", "pants", "clothes", "sunglasses", "glasses"])
def test_words_that_have_no_singular_keep_their_s(word):
    assert normalise_object(f"blue {word}") == f"blue {word}"


@pytest.mark.parametrize("text", ["<PERSON>", "a < person >", "<person>s", "<PERSON>'s"])
def test_an_anonymised_name_is_a_person(text):
    assert normalise_object(text) == "person"


@pytest.mark.parametrize(
    "text",
    ["image", "the background", "Vector Illustrations", "clip art", "stock photos", "images"],
)
def test_words_of_the_picture_trade_are_no_objects(text):
    assert normalise_object(text) is None


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("com book", "book"),
        ("png download butterfly", "download butterfly"),
        ("Aston Martin GT", "aston martin"),
        ("html", None),
        ("lt", None),
        ("www nbsp", None),
        ("nobody", None),
        ("guitar amp", "guitar amp"),
        ("fishing net", "fishing net"),
    ],
)
def test_parts_of_urls_entities_and_files_are_taken_out_of_objects(text, tag):
    assert normalise_object(text) == tag
    assert normalise_attribute("com") is normalise_attribute("gt") is None


def test_clutter_alone_is_no_tag_in_any_language():
    normaliser = Normaliser()
    assert normaliser.plain("com") is normaliser.plain("www http") is None
    assert normaliser.plain("bolo com morango") == "bolo com morango"  # `with` in Portuguese


def test_a_picture_of_something_names_the_thing():
    assert normalise_object("a sunset background") == "sunset"
    assert normalise_object("cat stock photo") == "cat"
    assert normalise_object("photo frame") == "photo frame"


@pytest.mark.parametrize("text", ["", " ", "the", "--", "'s", "123", "!?", "<>"])
def test_what_names_nothing_is_no_object(text):
    assert normalise_object(text) is None


def test_attributes_keep_their_form_and_numbers():
    assert normalise_attribute("Two") == "two"
    assert normalise_attribute("2") == normalise_attribute("two") == "two"
    assert normalise_attribute("the striped") == "striped"
    assert normalise_attribute("dark-brown") == "dark-brown"
    assert normalise_attribute("wood") == normalise_attribute("wooden") == "wooden"
    assert normalise_attribute("Royalty Free") is None
    assert normalise_attribute(" ") is None


@pytest.mark.parametrize(
    "text",
    ["t", "A", "u.s.", "2019", "1,200", "3 5", "я", "one-two-three-four-five-six-seven", "x" * 61],
)
def test_single_letters_numbers_and_long_texts_are_no_tags_in_any_language(text):
    assert normalise_object(text) is None
    assert normalise_attribute(text) is None
    assert default().plain(text) is None


@pytest.mark.parametrize(
    "text", ["x-ray", "m&m", "3d", "f1 car", "猫", "one two three four five six"]
)
def test_short_names_that_say_something_are_tags(text):
    assert normalise_object(text) == text


@pytest.mark.parametrize("text", ["red", "dark brown", "black and white", "blue-green", "White"])
def test_a_colour_alone_is_an_attribute_and_no_object(text):
    assert normalise_object(text) is None
    assert normalise_attribute(text)
    for caption in ("the door isn't red", "la porte est rouge", "red"):
        assert default().tags(caption, [text, "door"], [("wet", text)]) == (["door"], [])


@pytest.mark.parametrize("text", ["red rose", "white light", "orange", "gold", "light", "violet"])
def test_things_with_a_colour_and_things_called_like_one_are_objects(text):
    assert normalise_object(text) == text


@pytest.mark.parametrize(
    "word", ["लाल", "गाड़ी", "சிவப்பு", "ที่นี่", "עִבְרִית", "مُحَمَّد", "i\u0307nce", "লাল"]
)
def test_marks_stay_in_the_words_of_every_script(word):
    word = unicodedata.normalize("NFC", word)
    assert normalise_object(word) == word
    assert default().plain(f"({word})") == word
    assert default().words(word) == [word]


def test_format_characters_leave_no_space_behind():
    assert normalise_object("straw\u00adber\u200bries") == "strawberry"
    assert default().plain("می\u200cخواهم") == "میخواهم"


@given(TEXT)
def test_normalising_an_object_twice_changes_nothing(text):
    tag = normalise_object(text)
    assert tag is None or normalise_object(tag) == tag


@given(TEXT)
def test_normalising_an_attribute_twice_changes_nothing(text):
    tag = normalise_attribute(text)
    assert tag is None or normalise_attribute(tag) == tag


@given(TEXT)
def test_each_step_alone_is_idempotent(text):
    normaliser = default()
    words = normaliser.words(text)
    assert normaliser.words(" ".join(words)) == words
    for word in words:
        singular = normaliser.singular(word)
        assert normaliser.singular(singular) == singular


def test_every_word_of_real_captions_has_a_stable_tag(shared):
    lines = (shared / "captions" / "cc3m_val_dev.tsv").read_text().splitlines()
    captions = [line.split("\t")[1] for line in lines]
    seen = set()
    for caption in captions:
        words = caption.split()
        for start in range(len(words)):
            phrase = " ".join(words[start : start + 2])
            tag, attribute = normalise_object(phrase), normalise_attribute(phrase)
            assert tag is None or normalise_object(tag) == tag
            assert attribute is None or normalise_attribute(attribute) == attribute
            seen.add(tag)
    assert {"young woman", "beach", "tennis player"} <= seen
    assert not any(tag in seen for tag in ("image", "background", "vector", "illustration"))


def test_singulars_of_the_rules_are_final():
    normaliser = Normaliser()
    for singular in normaliser.rules.singulars.values():
        assert normaliser.singular(singular) == singular


def test_own_rules_replace_the_project_s(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(RULES.read_text().replace("stock_words: [", "stock_words: [poster, "))
    own = Normaliser(Rules.load(path))
    assert own.object("dog poster") == "dog"
    assert own.rules.digest != Rules.load().digest
    assert normalise_object("dog poster") == "dog poster"


def test_rules_travel_to_another_process():
    assert pickle.loads(pickle.dumps(Rules.load())) == Rules.load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", "`placeholders` is missing"),
        ("placeholders: [a]\n", "`placeholders` is missing or is not a mapping"),
        ("a: [\n", "is not YAML"),
        (RULES.read_text().replace('"no"', "no"), "put quotes around false in `determiners`"),
    ],
)
def test_wrong_rules_are_named_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=r"own\.yaml") as caught:
        Rules.load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_rules_are_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the normalisation rules .*absent\.yaml"):
        Rules.load(tmp_path / "absent.yaml")
