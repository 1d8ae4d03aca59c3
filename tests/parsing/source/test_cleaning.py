"""Captions reach parsers on one line, in one form, with nothing invisible in them."""

import pytest

from parsing.source.cleaning import clean


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        (" a\x00\tdog\n\n of  <PERSON>", "a dog of person"),
        ("cafe\u0301", "caf\u00e9"),
        ("a sun\u00adflower\u200b field", "a sunflower field"),
        ("می\u200cخواهم", "میخواهم"),
        ("", ""),
    ],
)
def test_cleaning(caption, text):
    assert clean(caption) == text
    assert clean(text) == text
