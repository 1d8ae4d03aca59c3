r"""A caption as parsers see it: text in, text out. The caption column of a run stays as it was.

| in the caption | what parsers see |
|---|---|
| entities, also escaped twice or without `&` or `;` (`&amp;amp;`, `& amp ;`, `#39;`) | their characters |
| mojibake, full-width letters, terminal escapes, escapes such as `\u00e9` | mended text |
| HTML, BBCode, wiki and Markdown marks | the text between them |
| placeholders of people (`<PERSON>`, `<usr>`, `[NAME]`) | `person` |
| other placeholders (`<LOCATION>`; `<URL>`, `<unk>`, `<|endoftext|>`) | their name; nothing |
| URLs, e-mail addresses, handles, file names, file endings | nothing; `red car.jpg` is `red car` |
| format characters (Cf), variation selectors, piles of diacritics | nothing, and no space either |
| typographic quotes and apostrophes | `"` and `'` |
| control characters, runs of blanks, underscores | one space |

Combining marks that belong to a word stay, in every script.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import ftfy
import pyarrow as pa
import regex

from parsing.source.characters import mended, with_plain_quotes, without_invisible
from parsing.source.clutter import without_clutter
from parsing.source.markup import unescaped, without_markup
from parsing.source.suspects import is_suspect, suspects_among

_FILES = ("cleaning.py", "characters.py", "clutter.py", "markup.py", "suspects.py")
_ROUNDS = 8  # what one round uncovers (a tag inside a tag, an escaped escape) the next one removes
# What most captions need that need anything; each is removed as the rounds below would remove it.
_PERSON = re.compile(r"<PERSON>(?<![^ (\"'].{8})(?![^ ,.!?)\"':])", re.DOTALL)
_ENTITY = re.compile(r"&(amp|quot|nbsp|apos|#0?39);")
_ENTITIES = {"amp": "&", "quot": '"', "nbsp": " ", "apos": "'", "#39": "'", "#039": "'"}
_TAG = re.compile(r"</?(?i:(b|i|u|em|strong|span)|p|br|div)\s*/?>(?!s\b)")
_LONE_URL = re.compile(r"(?<!\S)(?i:https?)://[!#$&(-)+-:=?-Z^_a-z|~]+(?<![.,:!?)])(?!\S)")
_BLANK = regex.compile(r"[\p{C}\p{Z}\s_]+")
_EMPTY = regex.compile(r"\(\s*\)|\[\s*\]|\{\s*\}")
_MARKS = regex.compile(r"[<>&@/\\\[\]{}#;=`*|%]+")


def clean(caption: str) -> str:
    """The caption on one line, in NFC, as the table of this module says.

    Cleaning twice changes nothing. The time is linear in the length of the caption.
    """
    return _cleaned(caption) if is_suspect(caption) else caption


def clean_all(
    captions: pa.Array | pa.ChunkedArray, texts: Sequence[str] | None = None
) -> list[str]:
    """`clean` for each caption of a column of strings, faster where most of them are clean.

    Args:
        captions: without nulls.
        texts: the same as Python's strings, where the caller has them.
    """
    if isinstance(captions, pa.ChunkedArray):
        captions = captions.combine_chunks()
    texts = captions.to_pylist() if texts is None else list(texts)
    suspects, tagged = suspects_among(captions.cast(pa.string()))
    for place in tagged:
        named = _with_persons(texts[place])
        texts[place] = _cleaned(texts[place]) if "<" in named else named
    for place in suspects:
        texts[place] = _cleaned(texts[place])
    return texts


def digest() -> str:
    """Changes whenever cleaning does; part of every run's fingerprint."""
    code = hashlib.sha256(ftfy.__version__.encode())
    for name in _FILES:
        code.update(Path(__file__).with_name(name).read_bytes())
    return code.hexdigest()[:16]


def _cleaned(text: str) -> str:
    short = _shortened(text)
    if not is_suspect(short):
        return short
    for _ in range(_ROUNDS):
        before, text = text, _round(text)
        if text == before or not is_suspect(text):
            return text
    # Marks nested deeper than anybody writes them: they go, and with them what they could begin.
    return _round(_MARKS.sub(" ", text).replace(".", " "))


def _shortened(text: str) -> str:
    """The text without what ails most captions, for a fraction of the time that a round takes."""
    text = _with_persons(text)
    plain = with_plain_quotes(text)
    if plain is None:
        return text
    if "&" in plain:
        plain = _ENTITY.sub(lambda match: _ENTITIES[match[1]], plain)
    if "<" in plain:
        plain = _TAG.sub(lambda match: "" if match[1] else " ", plain)
    if "://" in plain:
        plain = _LONE_URL.sub(" ", plain)
    return " ".join(plain.split()) if "  " in plain or plain != plain.strip() else plain


def _with_persons(text: str) -> str:
    text = text.replace(" <PERSON> ", " person ")  # nearly all of them, in a tenth of the time
    return _PERSON.sub("person", text) if "<PERSON>" in text else text


def _round(text: str) -> str:
    text = mended(unescaped(without_invisible(text)))
    text = without_clutter(without_markup(text))
    if not text.isprintable():
        text = _BLANK.sub(" ", text)
    text = text.replace("_", " ")
    if ("(" in text or "[" in text or "{" in text) and _EMPTY.search(text):
        text = _EMPTY.sub(" ", text)
    return " ".join(text.split())
