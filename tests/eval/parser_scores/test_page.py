"""The page is whole and safe, and says in words what its colours say."""

import re
from html.parser import HTMLParser

import pytest

from eval.parser_scores.page import page


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.links, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "action", "data")]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(boards):
    return page(boards, 300)


def words(text):
    return re.sub(r"<[^>]+>", "", text)


def test_the_page_is_whole_escaped_and_needs_nothing_from_elsewhere(text):
    found = Page(text)
    assert found.open == []
    assert not {"script", "b", "i", "u", "web", "link", "iframe", "img"} & set(found.tags)
    assert not re.search(r"https?:|url\(|@import", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; dog &amp; a &#34;cat&#34;" in text
    assert 'name="viewport"' in text


def test_every_gold_file_has_a_section_that_the_head_of_the_page_leads_to(text):
    found = Page(text)
    assert found.links == ["#gold-1", "#gold-2"]
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    first, second = text.split('<section class="gold"')[1:]
    assert "&lt;web&gt;/gold.jsonl" in first
    assert "a red car" in first
    assert "old/gold.jsonl" in second
    assert "a cat" in second
    assert "a red car" not in second


def test_one_gold_file_needs_no_choice(boards):
    found = Page(page(boards[:1], 300))
    assert (found.links, "nav" in found.tags) == ([], False)


def test_right_wrong_missed_and_arguable_are_said_in_words_and_signs(text):
    said = words(text)
    assert "✓right: car" in said
    assert "✗wrong: &lt;i&gt;sky&lt;/i&gt;" in said
    assert "○missed: red → car" in said
    assert "~arguable: &lt;i&gt;haze&lt;/i&gt;" in said
    assert "gold: car, red → car; arguable: &lt;i&gt;haze&lt;/i&gt;" in said
    assert "gold: cat\n" in said
    assert "failed: &lt;u&gt;no&lt;/u&gt;" in said


def test_gold_tags_out_of_reach_are_counted(text):
    assert "4 gold tags, 2 of them with a word that their caption lacks" in text.replace(
        "&#39;", "'"
    )
    assert "1 gold tags, all of them in their caption&#39;s words" in text


def test_as_many_captions_of_each_file_are_shown_as_asked_for(boards):
    text = page(boards, 1)
    assert text.count("<article") == 2
    assert "The first 1 of 2" in text
    assert "The first 1 of 1" in text
