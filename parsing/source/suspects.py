r"""Which captions may need cleaning, found for a fraction of the time that cleaning takes.

A caption that is no suspect is clean; a suspect may be. One caption is looked at by expressions, and
each of them only where the signs that it begins with are there. A column is looked at as the run of
bytes that Arrow keeps, in which three neighbours at a time are looked up in a table.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from parsing.source.characters import is_usual
from parsing.source.markup import ENTITY_NAMES

_SIGNS = re.compile(r"[@\\\[\]{}_=`*]")
_TAG = re.compile(r"<\D")
_NAMED = re.compile(r"\w;", re.ASCII)
_ENTITY = re.compile(rf"&(?:.{{0,9}};|(?i:{ENTITY_NAMES})(?![A-Za-z0-9_])|#\d)")
_PATH = re.compile(r"/(?:/|[\w.-]+/)", re.ASCII)
_DOTTED = re.compile(
    r"\.(?:[A-Za-z]{2}|7z| ?(?i:jpe?g|png|gif|tiff?|bmp|webp|svg|pdf|com|net|org)\b)", re.ASCII
)
_COLON = re.compile(r":[^ ]")
_SCHEME = re.compile(r"(?:mailto|javascript|tel|data|urn|magnet):[^ ]", re.IGNORECASE)
_CAMERA = re.compile(r"\bdsc", re.ASCII)
_REFERENCE = re.compile(r"\brh [\w-]+ com\b", re.ASCII)
_BRACKET = re.compile(r"\(\s*(?:\)|at\s*\))", re.IGNORECASE)


def is_suspect(text: str) -> bool:
    """Whether a caption may need cleaning."""
    if not is_usual(text) or _SIGNS.search(text) is not None:
        return True
    if "  " in text or text[:1] == " " or text[-1:] == " " or "%20" in text:
        return True
    if "<" in text and _TAG.search(text) is not None:
        return True
    if ";" in text and _NAMED.search(text) is not None:
        return True
    if "&" in text and _ENTITY.search(text) is not None:
        return True
    if "/" in text and _PATH.search(text) is not None:
        return True
    if "." in text and _DOTTED.search(text) is not None:
        return True
    if "(" in text and _BRACKET.search(text) is not None:
        return True
    if ":" in text and _COLON.search(text) is not None and _SCHEME.search(text) is not None:
        return True
    low = text.lower()
    if "dsc" in low and _CAMERA.search(low) is not None:
        return True
    if "rh " in low and _REFERENCE.search(low) is not None:
        return True
    found = "http" in low or "www" in low or "wp-content" in low
    return found or "nbsp" in low or "href" in low or "img" in low


_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_ALL = bytes(range(256))
_ODD = bytes(n for n in _ALL if n < 32 or n > 126) + rb"@\[]{}_=`*<;"
_NO_SPACE = _ALL.replace(b" ", b"")
_NO_WORD = bytes(n for n in _ALL if n not in _LOWER + _LOWER.upper() + b"0123456789_")
# What stands in a suspect: one of the first bytes, one of the second, one of the third. Rows are few, since
# each is a bit of a byte; so some hold several words, and find a few more that nobody writes.
_TRIPLES = (
    (_ODD + b" (", b" )", _ALL),  # also two blanks, and `()`
    (_ODD + b":/&%", _NO_SPACE, _ALL),
    (b".<", _LOWER + b"7", _ALL),
    (b".(", b" a", b"jpgtbwscno"),  # `. jpg`, `(at)`, `( at )`
    (b"tw", b"twp", b"pw-"),  # http, www, wp-content
    (b"ni", b"bm", b"sg"),  # nbsp, img
    (b"h", b"r", b"e"),  # href
    (_NO_WORD, b"dr", b"sh"),  # dsc, rh
)

_DOT = 1 << 2  # the row of `.`
_WORD = 1 << 7  # the row of what is looked for at the start of a word
_TAGGED = 0b110  # what only a `<` before a letter gives


def _table(place: int) -> bytes:
    """For every byte the rows of `_TRIPLES` that have it in this place, as bits."""
    bits = bytearray(256)
    for row, triple in enumerate(_TRIPLES):
        for byte in {*triple[place].lower(), *triple[place].upper()}:
            bits[byte] |= 1 << row
    return bytes(bits)


_TABLES = tuple(map(_table, range(3)))


def suspects_among(captions: pa.StringArray) -> tuple[set[int], set[int]]:
    """Places of the captions that may be suspects; a few of them are none.

    Args:
        captions: without nulls.

    Returns:
        Two sets, of which the second has those in which nothing is odd but a `<` before a letter,
        the only sign of most placeholders of people.
    """
    _, offsets, data = captions.buffers()
    if not len(captions) or data is None:
        return set(), set()
    ends = np.frombuffer(offsets, np.int32)[captions.offset : captions.offset + len(captions) + 1]
    if ends[0] == ends[-1]:
        return set(), set()
    text = data.to_pybytes()[ends[0] : ends[-1]] + b"--"
    ends = ends - ends[0]
    starts, last = ends[:-1], ends[1:] - 1
    first, second, third = (np.frombuffer(text.translate(each), np.uint8) for each in _TABLES)
    found = first[:-2] & second[1:-1]
    found &= third[2:]
    found[last] &= 0xFF ^ _DOT  # the next byte is another caption's
    places = np.flatnonzero(found != 0)
    rows = np.searchsorted(ends, places, side="right") - 1
    tagged = found[places] == _TAGGED
    spaces = np.frombuffer(text, np.uint8) == ord(" ")
    edges = spaces[starts] | spaces[last] | (second[starts] & third[starts + 1] & _WORD != 0)
    suspects = {*rows[~tagged].tolist(), *np.flatnonzero(edges).tolist()}
    return suspects, set(rows[tagged].tolist()) - suspects
