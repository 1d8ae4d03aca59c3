"""Characters of captions that are mended: mojibake, what is invisible, typographic quotes."""

from __future__ import annotations

import re
from unicodedata import is_normalized

import ftfy
import regex

_FTFY = ftfy.TextFixerConfig(unescape_html=True, explain=False)
# Letters and signs that need nothing where they stand between ASCII; two of them may be mojibake.
_ALONE = "à-ÿÀÁÄÇÈÉÊËÍÑÓÖÚÜß–—…•·®©™°£€×½"
# Letters of other scripts, of which mojibake is not made or not in runs: Cyrillic, Hebrew, Arabic, those of
# India, Thai, Japanese, Chinese, Korean.
_LETTERS = (
    "\u0401\u0410-\u044f\u0451\u05d0-\u05ea\u0621-\u063a\u0641-\u064a\u0900-\u0d7f\u0e01-\u0e4e"
    "\u3041-\u3096\u30a1-\u30fa\u30fc\u4e00-\u9fff\uac00-\ud7a3"
)
_SINGLE, _DOUBLE = "‘’‚‛ʼʹ′‵＇ˈ", "“”„‟«»″‶〝〞＂"
_MENDED = dict.fromkeys(_SINGLE, "'") | dict.fromkeys(_DOUBLE, '"') | {"\xa0": " "}
_QUOTES = str.maketrans({sign: plain for sign, plain in _MENDED.items() if sign != "\xa0"})
_EASY = re.compile(f"[{''.join(_MENDED)}]")
_UNUSUAL = re.compile(f"[^ -~{_ALONE}{_LETTERS}]")
_HARD = re.compile(f"[^ -~{_ALONE}{_LETTERS}{''.join(_MENDED)}]")
_TOGETHER = re.compile(rf"[{_ALONE}{''.join(_MENDED)}](?:[^ -~]|(?<=[^ -~].))")
_INVISIBLE = regex.compile(r"[\p{Cf}\uFE00-\uFE0F\U000E0100-\U000E01EF]+")
_PILED = regex.compile(r"[\u0300-\u036F]{3,}|[\u0334-\u0338\p{Me}]+")
_TICK = regex.compile(r"(?<=\p{L})[`´](?=\p{L})")


def is_usual(text: str) -> bool:
    """Whether all characters stay as they are: False also where that takes long to tell."""
    if text.isascii():
        return text.isprintable()
    return _UNUSUAL.search(text) is None and _is_easy(text)


def with_plain_quotes(text: str) -> str | None:
    """The text with plain quotes and spaces, where it needs no other mending; else None."""
    if text.isascii():
        return text if text.isprintable() else None
    if _HARD.search(text) is not None or not _is_easy(text):
        return None
    return _EASY.sub(lambda match: _MENDED[match[0]], text)


def _is_easy(text: str) -> bool:
    if _TOGETHER.search(text) is not None or not is_normalized("NFC", text):
        return False
    return text.replace("\xa0", " ").isprintable()


def without_invisible(text: str) -> str:
    """The text without format characters and variation selectors, and no space in their place."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def mended(text: str) -> str:
    """The text in NFC with entities and mojibake replaced, quotes plain, and no piles of diacritics."""
    plain = with_plain_quotes(text)
    if plain is None or ("&" in text and ";" in text):
        plain = _PILED.sub("", _INVISIBLE.sub("", ftfy.fix_text(text, _FTFY))).translate(_QUOTES)
    return _TICK.sub("'", plain) if "`" in plain or "´" in plain else plain
