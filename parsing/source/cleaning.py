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
from pathlib import Path

import ftfy
import pyarrow as pa
import pyarrow.compute as pc
import regex

from parsing.source.clutter import without_clutter
from parsing.source.markup import unescaped, without_markup

_ROUNDS = 8  # what one round uncovers (a tag inside a tag, an escaped escape) the next one removes
_FTFY = ftfy.TextFixerConfig(unescape_html=True, explain=False)
# A caption without a match is clean. Letters and signs of `_ALONE` need nothing where they stand between
# ASCII; two of them may be mojibake.
_ALONE = "à-ÿÀÁÄÇÈÉÊËÍÑÓÖÚÜß–—…•·®©™°£€×½"
_IMAGES = "jpe?g|png|gif|tiff?|bmp|webp|svg|pdf|com|net|org"
_TRIGGER = (
    rf"[^ -~{_ALONE}]|[^ -~][^ -~]|[@\\\[\]{{}}_=`*]|<\D|  |^ | $|%20"
    r"|\w;|&.{0,9};|&(?i:amp|nbsp|quot|apos|lt|gt|#\d)"
    rf"|//|/[\w.-]+/|\.(?:[A-Za-z]{{2}}|7z)|\. ?(?i:{_IMAGES})\b"
    r"|(?i:mailto|javascript|tel|data|urn|magnet):[^ ]|(?i:http|www|nbsp|href|img|\bdsc|\brh [\w-]+ com\b)"
)
_SUSPECT = re.compile(_TRIGGER, re.ASCII)
# Quicker than the whole expression: no match begins with a character that this does not find.
_ODD = re.compile(
    rf"[^A-Za-z0-9 ,'\"!?()$+|#-](?!(?<=[.:&]) (?!(?i:{_IMAGES})\b)|(?<=[.:])$|(?<=[{_ALONE}])(?:[ -~]|$))"
)
# The same for whole columns, looser: what has no match here has none there. Its automaton is small, which
# counts where it is built anew for every shard.
_COLUMN_TRIGGER = (
    r"[^A-Za-z0-9 ,.:'\"!?()$+|#^~>%-]|  |^ | $|%2|:[^ ]|\.[A-Za-z7]"
    r"|\. (?i:jp|pn|gi|ti|bm|we|sv|pd|co|ne|or)|(?i:http|www|nbsp|href|img|dsc|rh )"
)
# What most captions need that need anything; each is removed as the rounds below would remove it.
_PERSON = re.compile(r"(?<![^ (\"'])<PERSON>(?![^ ,.!?)\"':])")
_ATTACHED = r"[^ (\"']<PERSON>|<PERSON>[^ ,.!?)\"':]"
_ENTITY = re.compile(r"&(amp|quot|nbsp|apos|#0?39);")
_ENTITIES = {"amp": "&", "quot": '"', "nbsp": " ", "apos": "'", "#39": "'", "#039": "'"}
_TAG = re.compile(r"</?(?i:(b|i|u|em|strong|span)|p|br|div)\s*/?>(?!s\b)")
_LONE_URL = re.compile(r"(?<!\S)(?i:https?)://[!#-&(-;=?-_a-~]+(?<![.,;:!?)\]}])(?!\S)")
_INVISIBLE = regex.compile(r"[\p{Cf}\uFE00-\uFE0F\U000E0100-\U000E01EF]+")
_PILED = regex.compile(r"[\u0300-\u036F]{3,}|[\u0334-\u0338\p{Me}]+")
_BLANK = regex.compile(r"[\p{C}\p{Z}\s_]+")
_EMPTY = regex.compile(r"\(\s*\)|\[\s*\]|\{\s*\}")
_QUOTES = str.maketrans(dict.fromkeys("‘’‚‛ʼʹ′‵＇ˈ", "'") | dict.fromkeys("“”„‟«»″‶〝〞＂", '"'))
_TICK = regex.compile(r"(?<=\p{L})[`´](?=\p{L})")
_MARKS = regex.compile(r"[<>&@/\\\[\]{}#;=`*|%]+")


def clean(caption: str) -> str:
    """The caption on one line, in NFC, as the table of this module says.

    Cleaning twice changes nothing. The time is linear in the length of the caption.
    """
    return _cleaned(caption) if _is_suspect(caption) else caption


def clean_all(captions: pa.Array | pa.ChunkedArray) -> list[str]:
    """`clean` for each caption of a column of strings, faster where most of them are clean."""
    if isinstance(captions, pa.ChunkedArray):
        captions = captions.combine_chunks()
    named = pc.replace_substring(captions, "<PERSON>", "person")
    texts = named.to_pylist()
    suspects = pc.indices_nonzero(pc.match_substring_regex(named, _COLUMN_TRIGGER)).to_pylist()
    lengths = pc.binary_length(named), pc.binary_length(captions)
    people = pc.indices_nonzero(pc.not_equal(*lengths))
    if len(people):
        attached = pc.match_substring_regex(captions.take(people), _ATTACHED)
        suspects = {*suspects, *people.filter(attached).to_pylist()}
    for at in suspects:
        texts[at] = _cleaned(captions[at].as_py())
    return texts


def _is_suspect(text: str) -> bool:
    if _ODD.search(text) is None:
        low = text.lower()
        odd = "http" in low or "www" in low or "img" in low or "dsc" in low or "  " in low
        odd = odd or "nbsp" in low or "href" in low or "rh " in low
        if not odd:
            return text[:1] == " " or text[-1:] == " "
    return _SUSPECT.search(text) is not None


def digest() -> str:
    """Changes whenever cleaning does; part of every run's fingerprint."""
    code = hashlib.sha256(ftfy.__version__.encode())
    for name in ("cleaning.py", "clutter.py", "markup.py"):
        code.update(Path(__file__).with_name(name).read_bytes())
    return code.hexdigest()[:16]


def _cleaned(text: str) -> str:
    short = _shortened(text)
    if not _is_suspect(short):
        return short
    for _ in range(_ROUNDS):
        before, text = text, _round(text)
        if text == before or not _is_suspect(text):
            return text
    # Marks nested deeper than anybody writes them: they go, and with them what they could begin.
    return _round(_MARKS.sub(" ", text).replace(".", " "))


def _shortened(text: str) -> str:
    """The text without what ails most captions, for a fraction of the time that a round takes."""
    if "<PERSON>" in text:
        text = _PERSON.sub("person", text)
    if not text.isascii():
        return text
    if "&" in text:
        text = _ENTITY.sub(lambda match: _ENTITIES[match[1]], text)
    if "<" in text:
        text = _TAG.sub(lambda match: "" if match[1] else " ", text)
    if "://" in text:
        text = _LONE_URL.sub(" ", text)
    return " ".join(text.split())


def _round(text: str) -> str:
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    text = unescaped(text)
    if not text.isascii() or "&" in text or not text.isprintable():
        text = _PILED.sub("", _INVISIBLE.sub("", ftfy.fix_text(text, _FTFY)))
        text = text.translate(_QUOTES)
    if "`" in text or "´" in text:
        text = _TICK.sub("'", text)
    text = without_clutter(without_markup(text))
    if "_" in text or not text.isascii() or not text.isprintable():
        text = _BLANK.sub(" ", text)
    if ("(" in text or "[" in text or "{" in text) and _EMPTY.search(text):
        text = _EMPTY.sub(" ", text)
    return " ".join(text.split())
