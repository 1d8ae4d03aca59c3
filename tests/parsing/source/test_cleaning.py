"""Captions reach parsers as language: one line, one form, nothing invisible, no markup, no addresses."""

from __future__ import annotations

import re
import time
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from parsing.source import characters, cleaning, clutter
from parsing.source.cleaning import clean, clean_all, digest
from parsing.source.clutter import without_clutter
from parsing.source.suspects import is_suspect, suspects_among

PIECES = st.sampled_from(
    [*"aÁ1 .,;:&<>/\\[](){}@#_-='\"%*é‘İ|$", "\u0301", "\u200b", "\u00ad", "\ufe0f", "\r\n", "\x00"]
    + ["amp;", "&lt;", "person", "http://", "www.", ".com", ".jpg", "href=", "IMG_", "br", "\\n"]
    + [
        "nbsp;",
        "&hellip",
        "Ã©",
        "<b>",
        "<PERSON>",
        "&amp;",
        "#39;",
        " . ",
        "@x.org",
        "a dog ",
        "ลูก",
        "ि",
        "rh ",
        " com",
        "dsc12",
        "tel:",
        "(at)",
        "</b>",
        "<br/>",
        " https://x.org/a ",
        "<PERS",
        "ON>",
        "%20",
        "%26",
        "%25",
        "%C3%A9",
        "&nbs",
        "&#82",
    ]
)
TEXT = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=14).map("".join))


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        (" a\x00\tdog\n\n of  <PERSON>", "a dog of person"),
        ("cafe\u0301", "caf\u00e9"),
        ("a sun\u00adflower\u200b field", "a sunflower field"),
        ("می\u200cخواهم", "میخواهم"),
        ("a red\u200e car \x1b[31m\u2028here", "a red car here"),
        ("", ""),
    ],
)
def test_a_caption_is_one_line_without_invisible_characters(caption, text):
    assert clean(caption) == text


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("Gotrek &amp; Felix", "Gotrek & Felix"),
        ("Gotrek &amp;amp;amp; Felix", "Gotrek & Felix"),
        ("salt & amp ; pepper", "salt & pepper"),
        ("Mother&#39;s, Mother&#x27;s, Mother&#039;s, Mother#39;s", ", ".join(["Mother's"] * 4)),
        ("a&nbsp;tea nbsp;&NBSP;pot&nbsp", "a tea pot"),
        ("&amp;quot;caldosa&amp;quot; &#8220;stew&#8221;", '"caldosa" "stew"'),
        ("WOMAD C&Aacute;CERES m&#233;decin", "WOMAD CÁCERES médecin"),
        ("&lt;b&gt;red&lt;/b&gt; &amp;lt;br /&amp;gt; bus", "red bus"),
        ("a dog&hellip &ndash a cat &copy 2014", "a dog… – a cat © 2014"),
        ("&#8217 amp; a cat &amp ; a &AMP; dog", "' & a cat & a & dog"),
        ("AT&T, H&M and R&D at B&B", "AT&T, H&M and R&D at B&B"),
        ("guitar & amp on a stand", "guitar & amp on a stand"),
    ],
)
def test_entities_become_their_characters_also_damaged_and_escaped_twice(caption, text):
    assert clean(caption) == text


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("a dog&nbs", "a dog"),
        ("cats &am", "cats"),
        ("caf&eacut ", "caf"),
        ("<b>a dog &helli</b>", "a dog"),
        ("a dog &amp;nbs http://x.org/a.jpg", "a dog"),
        ("a man &#82", "a man"),
        ("a man &#", "a man"),
        ("a man &#x201", "a man"),
        ("cats &amp", "cats &"),
        ("caf&#233", "café"),
        ("the dog&#8217", "the dog'"),
        ("a dog &nbs of", "a dog &nbs of"),
        ("AT&T", "AT&T"),
        ("R&B", "R&B"),
        ("r&b", "r&b"),
        ("black&white", "black&white"),
        ("smith&co", "smith&co"),
        ("sun&sea", "sun&sea"),
        ("guitar & am", "guitar & am"),
    ],
)
def test_an_entity_that_the_end_has_cut_goes_and_words_behind_an_ampersand_stay(caption, text):
    assert clean(caption) == text


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("dog%20on%20grass", "dog on grass"),
        ("a%20%22red%22%20car", 'a "red" car'),
        ("%26amp; a dog%26nbsp;house", "& a dog house"),
        ("Tom%26Jerry", "Tom&Jerry"),
        ("caf%C3%A9", "café"),
        ("%e4%bd%a0", "你"),
        ("dog%2520house", "dog house"),
        ("http://x.org/a%20b.jpg dog", "dog"),
        ("50% off", "50% off"),
        ("100%25 cotton", "100%25 cotton"),
        ("%50 indirim, %20 indirim", "%50 indirim, %20 indirim"),
        ("100%Cacao 100%Beef", "100%Cacao 100%Beef"),
        ("dog%ff", "dog%ff"),
        ("dog%00", "dog%00"),
    ],
)
def test_percent_encoding_is_decoded_and_percentages_stay(caption, text):
    assert clean(caption) == text


def test_mojibake_full_width_letters_and_escapes_are_mended():
    assert clean("cafÃ© donâ€™t") == "café don't"
    assert clean("ｒｅｄ ＜ＰＥＲＳＯＮ＞") == "red person"
    assert clean(r"caf\u00e9\nmen\'s hat") == "café men's hat"


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("<p>a <i>red</i><br/>car</p><!-- no -->", "a red car"),
        ("<a href='http://x.org/a?b=1' class=\"y\">Martin</a> &copy;", "Martin ©"),
        ("a dog <a href=/galleries/search?phrase=a+b", "a dog"),
        ('origin" data-credit="AP">Student in a hall', "Student in a hall"),
        ('image class="alignleft" src="x.jpg" of a cat', "image of a cat"),
        ("<script>alert('x')</script>a cat<style>p {}</style>", "a cat"),
        ("[b]red[/b] [url=http://x.org]car[/url] [img]http://x.org/y.jpg[/img]", "red car"),
        ("[caption id=\"a\" width='3']a dog[/caption]", "a dog"),
        ("[[File:x.jpg|thumb|A dog]] on a [[lawn|green lawn]]", "A dog on a green lawn"),
        ("![a cat](cat_1.png) [here](http://x.org) **bold**", "a cat here bold"),
        ("H<sub>2</sub>O", "H2O"),
        ("I <3 you, 2 < 3, a > b", "I <3 you, 2 < 3, a > b"),
    ],
)
def test_markup_goes_and_the_text_between_it_stays(caption, text):
    assert clean(caption) == text


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("<PERSON> and <person>s", "person and person"),
        ("<PERSON>'s hat", "person's hat"),
        ("by <PERSON>, (<PERSON>) and<PERSON>.", "by person, (person) and person."),
        ("&lt;PERSON&gt; &amp;lt;person&amp;gt;", "person person"),
        ("<usr> <user> <USERNAME> <name>", "person person person person"),
        ("<PERSON_1> meets [PERSON2] and {NAME}", "person meets person and person"),
        ("<LOCATION> at night", "location at night"),
        ("<|endoftext|>cat</s> <unk> <URL>", "cat"),
        ("chicken soup {recipe} [new]", "chicken soup {recipe} [new]"),
    ],
)
def test_placeholders_are_named(caption, text):
    assert clean(caption) == text


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("see https://a.org/b_c.jpg?d=e#f, a dog", "see , a dog"),
        ("a dog (www.foo.co.uk/bar) http://t.co/TW2Z", "a dog"),
        ("http : / / www . example . com / a dog", "dog"),
        ("scarf online at johnlewis.com | Nike.com GB", "scarf online at | GB"),
        ("Skinny Jeans-Bottoms-BellanBlue.com", "Skinny Jeans-"),
        ("check more at http", "check more at"),
        ("wiring diagram rh pinterest com guitar", "wiring diagram guitar"),
        ("mail me: a.b+c@d-e.org or x [at] y [dot] org", "mail me: or"),
        ("look by @hairbypash #sunset", "look by #sunset"),
        ("//cdn.x.com/a.png ftp://a/b data:image/png;base64,AA== mug", "mug"),
        ("http://x.cn/a的红色汽车", "的红色汽车"),
        ("dogs.The cat is 2.5 m from St.Louis, U.S.", "dogs.The cat is 2.5 m from St.Louis, U.S."),
        ("and/or, he/she, f/2.8", "and/or, he/she, f/2.8"),
    ],
)
def test_urls_addresses_and_handles_go(caption, text):
    assert clean(caption) == text


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("Fox Crochet Hat.jpg", "Fox Crochet Hat"),
        ("IMG_1234.JPG a red car DSC00123", "a red car"),
        ("Massey Ferguson at GDSF - IMG 0639", "Massey Ferguson at GDSF -"),
        ("MV046-CuteSpiderman-BW-Shirt.jpg", ""),
        ("500px-Logo_Piazza.svg.png?w=300 logo", "logo"),
        (r"C:\photos\a b.jpg /uploads/2019/03/ cat", "cat"),
        ("a dog .png and a cat . jpg", "a dog and a cat"),
        ("wall_mural_ideas_for_girls", "wall mural ideas for girls"),
        ("img - for a book", "- for a book"),
    ],
)
def test_file_names_and_endings_go_and_words_before_an_ending_stay(caption, text):
    assert clean(caption) == text


def test_typographic_quotes_become_plain():
    assert clean("‘a’ man’s “dog” «chien» the man`s") == "'a' man's \"dog\" \"chien\" the man's"


@pytest.mark.parametrize(
    "text",
    [
        "लाल गाड़ी",
        "சிவப்பு கார்",
        "ที่นี่มีแมว",
        "שָׁלוֹם עוֹלָם",
        "سَيَّارَةٌ حَمْرَاءُ",
        "İnce kedi",
        "লাল গাড়ি",
        "tiếng Việt",
    ],
)
def test_combining_marks_stay_in_words_of_every_script(text):
    assert clean(text) == unicodedata.normalize("NFC", text)
    assert clean(f"<b>{text}</b>\u200b &amp; x.org") == unicodedata.normalize("NFC", text) + " &"


def test_piles_of_diacritics_and_strokes_through_letters_go():
    assert clean("Z\u0351\u036b\u0343\u036aa\u0336lgo ❤\ufe0f") == "Zalgo ❤"


@given(TEXT)
def test_cleaning_twice_changes_nothing_and_a_column_is_cleaned_like_its_captions(text):
    text = text.encode("utf-8", "replace").decode()
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert clean_all(pa.array([text])) == [cleaned]
    assert "\n" not in cleaned
    assert not regex.search(r"\p{Cf}", cleaned)


def _slowly(text: str) -> str:
    """Rounds until nothing changes, without a look whether they are needed."""
    for _ in range(cleaning._ROUNDS):
        before, text = text, cleaning._round(text)
        if text == before:
            return text
    return text


@settings(max_examples=300)
@given(st.lists(TEXT, min_size=1, max_size=6))
def test_what_is_no_suspect_is_clean_and_a_column_s_suspects_hold_all_of_its_captions(texts):
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    suspects, persons = suspects_among(pa.array(["x", *texts])[1:])
    for place, text in enumerate(texts):
        if is_suspect(text):
            assert place in suspects + persons
        else:
            assert clean(text) == text == _slowly(text)
    assert (
        clean_all(pa.array(texts)) == clean_all(pa.array(texts), texts) == list(map(clean, texts))
    )


@given(TEXT)
def test_steps_that_are_passed_over_would_change_nothing(text):
    text = text.encode("utf-8", "replace").decode()
    cleaned, mended = without_clutter(text), characters.mended(text).replace("\xa0", " ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "with_plain_quotes", lambda text: None)
        for name in ("_AT", "_SAID_AT", "_URL_SIGN", "_FILE_SIGN", "_PATH_SIGN"):
            patch.setattr(clutter, name, re.compile(""))
        assert characters.mended(text).replace("\xa0", " ") == mended
        assert without_clutter(text) == cleaned


@pytest.mark.parametrize(
    "texts",
    [
        ["<PERS", "ON> a dog", "a <PERSON", "> and", "<PERSON>", "<PERSON>'s", "x", "<PERSON>"],
        ["<PERSON> and <PERSON>, (<PERSON>)", "<PERSON> and <LOCATION>", "<person>", "a<PERSON>b"],
        ["a dog.", "jpg of a cat", "at 10:", "30", "a hand", "sc", "rh", " com", "and/", "or", "("],
        ["ht", "tp://x.org", "&", "amp;", " ", "", " a", "a ", "", "é", "rh x com", "dsc", "a dsc"],
        ["<b>red</b> car", "http://x.org/a.jpg", "dog http://x.org", "<br>", "&nbsp;", "a<3", ""],
    ],
)
def test_captions_of_a_column_are_not_read_across_their_ends(texts):
    for first in range(len(texts)):
        column = pa.array(["(", *texts, "<PERSON>"])[1 + first :]
        assert clean_all(column) == list(map(clean, [*texts[first:], "<PERSON>"]))
        assert clean_all(pa.chunked_array([column, column[:1]]))[:1] == [clean(texts[first])]


@pytest.mark.parametrize(
    "texts", [[], [""], ["", "a dog", ""], ["a dog", " a", "dsc 12", "", "b "]]
)
def test_a_column_may_be_empty_and_hold_empty_captions(texts):
    column = pa.array(texts, pa.string())
    assert clean_all(column) == list(map(clean, texts))
    assert clean_all(column.cast(pa.large_string())) == list(map(clean, texts))


def test_ordinary_letters_of_any_script_are_no_suspects():
    for text in (
        "\u0427\u0435\u0445\u043e\u043b Apple",
        "\u56fe\u5e93 photo",
        "a caf\u00e9 \u2013 r\u00f6d",
    ):
        assert not is_suspect(text)


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        (
            "salt &amp; pepper &quot;x&quot; Mother&#39;s&nbsp;day",
            'salt & pepper "x" Mother\'s day',
        ),
        ("a <b>red</b> car<br/>and <P>a</P> dog", "a red car and a dog"),
        ("see HTTP://x.org/a?b=c&amp;d=e_f a dog http://y.com", "see a dog"),
        ("(http://x.org) a dog http://x.org, a cat", "a dog , a cat"),
        ("AT&amp;amp;T <PERSON>&amp;<PERSON>s", "AT&T person&person"),
    ],
)
def test_the_short_way_cleans_as_the_long_one(monkeypatch, caption, text):
    assert clean(caption) == text == _slowly(caption)
    monkeypatch.setattr(cleaning, "_shortened", lambda texts: texts)
    assert clean(caption) == text


def test_nested_and_long_captions_take_linear_time():
    began = time.monotonic()
    for piece in ("<", "<a ", "&amp;", "a.b-", "[[", "www.", "<b>x", 'a="', "\\x41", "é", "{{a"):
        clean(piece * 5_000)
    assert time.monotonic() - began < 60  # hours, where an expression is not linear


def test_real_captions_lose_markup_and_nothing_else(shared):
    alt_texts = pq.read_table(shared / "captions" / "alttext_dev.parquet")["TEXT"].drop_null()
    cleaned = clean_all(alt_texts)
    junk = regex.compile(r"&\w+;|</?\w+[^<>]*>|https?:|www\.|\.(?:jpe?g|png|com)\b|\bnbsp\b|href")
    assert not list(filter(junk.search, cleaned))
    cut = regex.compile(r"(?i)img|http|\brh .* com\b")
    plain = regex.compile(r"[\w ,'-]+")
    for before, after in zip(alt_texts.to_pylist(), cleaned, strict=True):
        if plain.fullmatch(before) and before.isascii() and not cut.search(before):
            assert after == " ".join(before.replace("_", " ").split())
    lines = (shared / "captions" / "cc3m_val_dev.tsv").read_text().splitlines()
    captions = [line.split("\t")[1] for line in lines]
    assert sum(clean(text) != text for text in captions) < 10


def test_the_digest_follows_the_rules(tmp_path, monkeypatch):
    before = digest()
    for name in cleaning._FILES:
        (tmp_path / name).write_text("")
    monkeypatch.setattr(cleaning, "__file__", str(tmp_path / "cleaning.py"))
    assert digest() != before
