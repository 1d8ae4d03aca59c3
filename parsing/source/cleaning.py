"""A caption as parsers see it: text in, text out. The caption column of a run stays as it was."""

from __future__ import annotations

import unicodedata

import regex

_FORMAT = regex.compile(r"\p{Cf}+")  # soft hyphens, zero-width characters, direction marks
_BLANK = regex.compile(r"[\p{C}\p{Z}\s]+")
_PERSON = regex.compile(r"<\s*person\s*>", regex.IGNORECASE)


def clean(caption: str) -> str:
    """The caption on one line, in NFC, without control and format characters, `<PERSON>` named."""
    text = _PERSON.sub(" person ", unicodedata.normalize("NFC", caption))
    return _BLANK.sub(" ", _FORMAT.sub("", text)).strip()
