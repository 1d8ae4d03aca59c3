"""Layouts of TSV files: a header, the order of columns, and both told to the user."""

from __future__ import annotations

import pytest

from common.errors import UserError
from parsing.source.readers import Row, Source

URLS = [f"https://img.example.com/photos/{n:04}.jpg" for n in range(3)]
CAPTIONS = ["a red bus parked beside a stone church", "two grey cats", "a yellow boat on a lake"]


@pytest.fixture
def read(tmp_path):
    """Reads lines as a TSV; returns its rows and its notes."""

    def run(*lines: str, **settings) -> tuple[list[Row], list[str]]:
        path = tmp_path / "a.tsv"
        path.write_text("\n".join(lines) + "\n")
        notes: list[str] = []
        source = Source((str(path),), **settings)
        rows = list(source.read(str(path), lambda kind, note: notes.append(note)))
        return rows, notes

    return run


EXPECTED = [Row(url, caption) for url, caption in zip(URLS, CAPTIONS, strict=True)]


def test_captions_before_urls_are_read_as_such_with_a_note(read):
    """CC3M is caption<TAB>url, CC12M url<TAB>caption."""
    rows, notes = read(*(f"{c}\t{u}" for u, c in zip(URLS, CAPTIONS, strict=True)))
    assert rows == EXPECTED
    [note] = notes
    assert "URLs in its second column: the first one is read as the caption" in note


def test_urls_before_captions_need_no_note_also_where_a_caption_is_a_url(read):
    rows, notes = read(f"{URLS[0]}\thttps://a.org", f"{URLS[1]}\ta dog")
    assert [row.key for row in rows] == URLS[:2]
    rows, more = read("1\thttps://a.org", "2\ta dog", "3\ta cat")
    assert [row.key for row in rows] == ["1", "2", "3"]
    assert notes == more == []


@pytest.mark.parametrize(
    "header",
    ["url\tcaption", "URL\tTEXT", "image_url\tCaption", " key \ttext", "\ufeffurl\tcaption"],
)
def test_a_header_is_no_row_and_is_told(read, header):
    rows, notes = read(header, *(f"{u}\t{c}" for u, c in zip(URLS, CAPTIONS, strict=True)))
    assert rows == EXPECTED
    assert "has a header: captions are in its column" in notes[0]


def test_the_columns_of_a_header_are_used_in_any_order_and_beside_others(read):
    lines = [f"{n}\t{c}\t0.9\t{u}" for n, (u, c) in enumerate(zip(URLS, CAPTIONS, strict=True))]
    rows, _ = read("row\tcaption\tscore\turl", *lines, "cut\toff")
    assert rows[:3] == EXPECTED
    assert rows[3] == Row(
        "cut", "off", "line 5: 2 columns instead of row<TAB>caption<TAB>score<TAB>url"
    )
    rows, _ = read("photo\ttitle", "p1\ta dog", caption_column="title", key_column="photo")
    assert rows == [Row("p1", "a dog")]


def test_a_row_that_reads_like_words_is_no_header(read):
    assert len(read("https://a/1\tcaption", "https://a/2\ta dog")[0]) == 2
    assert len(read("img1\ttext on a wall", "img2\ta dog")[0]) == 2


def test_a_column_that_no_header_names_is_told(read):
    with pytest.raises(UserError, match=r"has no header, so it has no column 'alt'"):
        read("https://a/1\ta dog", caption_column="alt")
    with pytest.raises(UserError, match=r"has no header, so it has no column 'nr'"):
        read("url\tcaption", "https://a/1\ta dog", key_column="nr")


def test_a_header_without_a_usual_caption_column_is_told_and_no_image(read):
    """open_clip's tables have the columns `filepath` and `title`."""
    lines = ("filepath\ttitle", "1.jpg\ta dog", "2.jpg\ta cat")
    with pytest.raises(UserError, match=r"has filepath, title\): give --caption-column"):
        read(*lines)
    rows, notes = read(*lines, caption_column="title")
    assert rows == [Row("1.jpg", "a dog"), Row("2.jpg", "a cat")]
    assert "captions are in its column 'title', keys in 'filepath'" in notes[0]


def test_a_header_without_keys_is_announced(read):
    rows, notes = read("caption\twidth", "a dog\t3", caption_column="caption")
    assert rows[0].caption == "a dog"
    assert "has no key column" in notes[1]


@pytest.mark.parametrize(
    "names", ["Link\tBeschreibung", "alttext\tphoto_url", "Image URL\tAlt Text"]
)
def test_unusual_names_above_urls_are_a_header_that_is_asked_about(read, names):
    caption = next(
        name for name in names.split("\t") if name in ("Beschreibung", "alttext", "Alt Text")
    )
    lines = list(zip(URLS, CAPTIONS, strict=True))
    if names.startswith(caption):
        lines = [line[::-1] for line in lines]
    lines = [names, *map("\t".join, lines)]
    with pytest.raises(UserError, match=r"no usual caption column .*: give --caption-column"):
        read(*lines)
    assert read(*lines, caption_column=caption)[0] == EXPECTED


def test_the_column_of_urls_is_the_key_whatever_its_name(read):
    lines = [f"{caption}\t{url}" for url, caption in zip(URLS, CAPTIONS, strict=True)]
    rows, notes = read("#caption\tphoto_url", *lines)
    assert rows == EXPECTED
    assert "captions are in its column 'caption', keys in 'photo_url'" in notes[0]


def test_row_numbers_without_a_name_are_a_column_of_a_header(read):
    lines = [f"{n}\t{u}\t{c}" for n, (u, c) in enumerate(zip(URLS, CAPTIONS, strict=True))]
    assert read("\turl\tcaption", *lines)[0] == EXPECTED


def test_captions_before_file_names_are_read_as_such_with_a_note(read):
    rows, notes = read("a dog on grass\timg/1.jpg", "two cats\timg/2.JPG")
    assert rows == [Row("img/1.jpg", "a dog on grass"), Row("img/2.JPG", "two cats")]
    assert "file names in its second column" in notes[0]


def test_a_file_all_of_whose_cells_are_quoted_is_read_without_the_marks(read):
    lines = [f'"{url}"\t"{caption}"' for url, caption in zip(URLS, CAPTIONS, strict=True)]
    assert read('"url"\t"caption"', *lines)[0] == EXPECTED
    assert read(*lines)[0] == EXPECTED
    assert read('"u"\t"a ""big"" dog"')[0] == [Row("u", 'a "big" dog')]
    assert read('"u"\t"a dog"', "v\ta cat")[0] == [Row('"u"', '"a dog"'), Row("v", "a cat")]
