r"""A caption as parsers see it: text in, text out. The caption column of a run stays as it was.

| in the caption | what parsers see |
|---|---|
| entities, also escaped twice or without `&` or `;` (`&amp;amp;`, `& amp ;`, `#39;`) | their characters |
| an entity that the caption's end has cut (`&nbs`, `&#82`) | nothing |
| percent-encoding (`dog%20on%20grass`, `%26amp;`), not percentages | its characters |
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
from parsing.source.suspects import BEFORE_PERSON, BEHIND_PERSON, is_suspect, suspects_among

_FILES = ("cleaning.py", "characters.py", "clutter.py", "markup.py", "suspects.py")
_ROUNDS = 8  # what one round uncovers (a tag inside a tag, an escaped escape) the next one removes
# What most captions need that need anything; each is removed as the rounds below would remove it.
_PERSON = re.compile(rf"<PERSON>(?<![^\n{BEFORE_PERSON}].{{8}})(?![^\n{BEHIND_PERSON}])")
_ENTITY = re.compile(r"&(amp|quot|nbsp|apos|#0?39);")
_ENTITIES = {"amp": "&", "quot": '"', "nbsp": " ", "apos": "'", "#39": "'", "#039": "'"}
_INLINE = re.compile(r"</?(?i:b|i|u|em|strong|span) */?>(?!s\b)")
_BREAK = re.compile(r"</?(?i:p|br|div) */?>(?!s\b)")
_LONE_URL = re.compile(r" https?://[!#$&(-)+-:=?-Z^_a-z|~]+(?<![.,:!?)])(?!\S)")
_SPACES = re.compile("  +")
_BLANK = regex.compile(r"[\p{C}\p{Z}\s_]+")
_EMPTY = regex.compile(r"\(\s*\)|\[\s*\]|\{\s*\}")
_MARKS = regex.compile(r"[<>&@/\\\[\]{}#;=`*|%]+")


def clean(caption: str) -> str:
    """The caption on one line, in NFC, as the table of this module says.

    Cleaning twice changes nothing. The time is linear in the length of the caption.
    """
    return _cleaned([caption])[0] if is_suspect(caption) else caption


def clean_all(
    captions: pa.Array | pa.ChunkedArray, texts: Sequence[str] | None = None
) -> list[str]:
    """`clean` for each caption of a column of strings, faster where most of them are clean.

    Args:
        captions: without nulls.
        texts: the same as Python's strings, where the caller has them.
    """
    if isinstance(captions, pa.ChunkedArray):
        one = captions.num_chunks == 1  # which `combine_chunks` would copy
        captions = captions.chunk(0) if one else captions.combine_chunks()
    if captions.type != pa.string():
        captions = captions.cast(pa.string())
    texts = captions.to_pylist() if texts is None else list(texts)
    suspects, persons = suspects_among(captions)
    for place in persons:
        texts[place] = texts[place].replace("<PERSON>", "person", 1)
    for place, text in zip(suspects, _cleaned([texts[place] for place in suspects]), strict=True):
        texts[place] = text
    return texts


def digest() -> str:
    """Changes whenever cleaning does; part of every run's fingerprint."""
    code = hashlib.sha256(ftfy.__version__.encode())
    for name in _FILES:
        code.update(Path(__file__).with_name(name).read_bytes())
    return code.hexdigest()[:16]


def _cleaned(texts: list[str]) -> list[str]:
    """The texts, most of which are suspects, cleaned."""
    plain = list(map(with_plain_quotes, texts))
    short = _shortened([text for text in plain if text is not None])
    # Together in a fraction of the time, and none is a suspect if all together are none.
    if len(short) == len(texts) and not is_suspect(" - ".join(short)):
        return short
    rest = iter(short)
    short = [text if text is None else next(rest) for text in plain]
    return [
        _in_rounds(text) if each is None or is_suspect(each) else each
        for text, each in zip(texts, short, strict=True)
    ]


def _in_rounds(text: str) -> str:
    for _ in range(_ROUNDS):
        before, text = text, _round(text)
        if text == before or not is_suspect(text):
            return text
    # Marks nested deeper than anybody writes them: they go, and with them what they could begin.
    return _round(_MARKS.sub(" ", text).replace(".", " "))


def _shortened(texts: list[str]) -> list[str]:
    """Texts without what ails most captions, for a fraction of the time that a round takes.

    Args:
        texts: of printable characters, and without other blanks than spaces.
    """
    lines = "".join([f" {text}\n" for text in texts])
    if "<" in lines:
        lines = _PERSON.sub("person", lines)
    if "&" in lines:
        lines = _ENTITY.sub(lambda match: _ENTITIES[match[1]], lines)
    if "<" in lines:
        lines = _BREAK.sub(" ", _INLINE.sub("", lines))
    if "://" in lines:
        lines = _LONE_URL.sub("", lines)
    lines = _SPACES.sub(" ", lines).replace(" \n", "\n")
    return [line[1:] for line in lines.split("\n")[:-1]]


def _round(text: str) -> str:
    text = mended(unescaped(without_invisible(text)))
    text = without_clutter(without_markup(text))
    if not text.isprintable():
        text = _BLANK.sub(" ", text)
    text = text.replace("_", " ")
    if ("(" in text or "[" in text or "{" in text) and _EMPTY.search(text):
        text = _EMPTY.sub(" ", text)
    return " ".join(text.split())
