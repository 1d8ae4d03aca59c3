"""Tags of a list: the longest, word for word, in whatever form the caption has them."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from parsing.baselines.tag2text_parser import Tag2TextConfig


def build(tmp_path, *tags):
    path = tmp_path / "tags.txt"
    path.write_text("\n".join(tags))
    return Tag2TextConfig(path).build()


def tags(parser, caption):
    (parsed,) = parser.parse([caption])
    assert parsed.attributes == []
    return parsed.objects


def test_the_longest_tag_wins(tmp_path):
    parser = build(tmp_path, "tennis", "tennis racket", "racket", "ball")
    assert tags(parser, "a tennis racket and a tennis ball") == ["tennis racket", "tennis", "ball"]


def test_neighbouring_tags_are_both_found(tmp_path):
    assert tags(build(tmp_path, "dog", "cat"), "dog cat dog") == ["dog", "cat"]


def test_tags_match_whole_words_only(tmp_path):
    assert tags(build(tmp_path, "cat", "art"), "a catalogue of party carts") == []


@pytest.mark.parametrize(
    ("tag", "caption"),
    [
        ("wolf", "two wolves"),
        ("glasses", "a man with glasses"),
        ("run", "dogs running"),
        ("French fries", "french fries on a plate"),
        ("palm tree", "Palm trees ."),
        ("t-shirt", "blue t-shirts"),
        ("rubik's cube", "a Rubik's Cube"),
        ("heart", "a heart-shaped box"),
        ("man", "the man's hat"),
        ("person", "<PERSON> smiles"),
        ("3D glasses", "in 3d glasses"),
        ("café", "a café in town"),
    ],
)
def test_forms_of_a_word_are_the_same_tag(tmp_path, tag, caption):
    assert tags(build(tmp_path, tag, "zebra"), caption) == [tag.lower()]


@pytest.mark.parametrize("caption", ["a -cat", "cat- --", "'s cat", "cat--dog-"])
def test_stray_hyphens_and_apostrophes_are_no_words(tmp_path, caption):
    assert "cat" in tags(build(tmp_path, "cat"), caption)


def test_a_tag_s_own_form_is_preferred_to_its_lemma(tmp_path):
    assert tags(build(tmp_path, "build", "building"), "a building") == ["building"]


def test_stock_words_are_no_tags_even_of_a_list(tmp_path):
    assert tags(build(tmp_path, "background", "dog", "illustration"), "dog background") == ["dog"]
    assert tags(build(tmp_path, "background"), "a background") == []


def test_letters_numbers_and_colours_alone_are_no_tags_even_of_a_list(tmp_path):
    parser = build(tmp_path, "a", "7", "red", "red car")
    assert tags(parser, "a red bus number 7 and a red car") == ["red car"]


def test_a_caption_without_words_is_empty(tmp_path):
    (parsed,) = build(tmp_path, "dog").parse(["!!"])
    assert parsed.status == "empty"


def test_a_tag_inside_a_longer_one_that_does_not_come_about_is_found(tmp_path):
    assert tags(build(tmp_path, "dog", "red big tree", "tree dog tree"), "tree tree dog") == ["dog"]
    parser = build(tmp_path, "house big big", "big dog house", "big tree tree", "big")
    assert tags(parser, "house dog house big") == ["big"]


WORDS = st.sampled_from(["old", "dog", "house", "tree", "big"])


@settings(max_examples=1_000)
@given(
    listed=st.lists(st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=8),
    words=st.lists(WORDS, min_size=1, max_size=10),
)
def test_matches_are_those_of_a_search_word_by_word(tmp_path_factory, listed, words):
    expected, place = [], 0
    while place < len(words):
        for length in (3, 2, 1):
            phrase = " ".join(words[place : place + length])
            if len(words) - place >= length and phrase in listed:
                expected.append(phrase)
                place += length
                break
        else:
            place += 1
    parser = build(tmp_path_factory.mktemp("tags"), *listed)
    assert tags(parser, " ".join(words)) == list(dict.fromkeys(expected))


def test_real_captions_get_tags_of_the_real_list_only(shared):
    config = Tag2TextConfig(shared / "taglists" / "ram_tag_list.txt")
    parser = config.build()
    lines = (shared / "captions" / "cc3m_val_dev.tsv").read_text().splitlines()
    answers = parser.parse([line.split("\t")[1] for line in lines])
    found = {tag for parsed in answers for tag in parsed.objects}
    assert found <= set(config.tags)
    assert len(found) > 1000
    assert {"beach", "tennis player"} <= found


def test_the_tags_travel_with_the_configuration(tmp_path):
    path = tmp_path / "tags.txt"
    path.write_text("dog\n\nDog\n  red   cat \n")
    config = Tag2TextConfig(path)
    assert config.tags == ("dog", "red cat")
    sent = pickle.dumps(config)
    path.unlink()
    assert tags(pickle.loads(sent).build(), "red cats") == ["red cat"]


def test_the_fingerprint_follows_the_tags_and_not_the_path(tmp_path):
    one, two, other = (tmp_path / name for name in ("one.txt", "two.txt", "other.txt"))
    one.write_text("dog\ncat")
    two.write_text("dog\ncat\n")
    other.write_text("dog\n")
    assert Tag2TextConfig(one).fingerprint() == Tag2TextConfig(two).fingerprint()
    assert Tag2TextConfig(one).fingerprint() != Tag2TextConfig(other).fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read the tag list"), (b"", "holds no tags"), (b"\xff\xfe\xff", "not UTF-8")],
)
def test_a_wrong_list_is_named_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "tags.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Tag2TextConfig(path)
    assert "tags.txt" in str(caught.value)


def test_no_list_is_named_with_the_flag_that_gives_one():
    with pytest.raises(UserError, match="--tag-list"):
        Tag2TextConfig()
