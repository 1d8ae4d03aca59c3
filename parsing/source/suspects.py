r"""Which captions may need cleaning, found for a fraction of the time that cleaning takes.

A caption that is no suspect is clean; a suspect may be. One caption is looked at by expressions, and
each of them only where the signs that it begins with are there. A column is looked at as the run of
bytes that Arrow keeps, in which neighbours are looked up in tables.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from parsing.source.characters import is_usual
from parsing.source.markup import ENTITY_NAMES

_SIGNS = re.compile(r"[@\\\[\]{}_=`*]")
_SIGNS_OR_CONTROLS = re.compile(r"[\x00-\x1f\x7f@\\\[\]{}_=`*]")
_TAG = re.compile(r"<\D")
_NAMED = re.compile(r"\w;", re.ASCII)
_ENTITY = re.compile(
    rf"&(?:.{{0,9}};|(?i:{ENTITY_NAMES})(?![A-Za-z0-9_])|#\d|(?:#|[a-z]{{2}})\w*(?!\S))"
)
_PERCENT = re.compile(r"%[2-7C-Fc-f][\dA-Fa-f]")
_PATH = re.compile(r"/(?:/|[\w.-]+/)", re.ASCII)
_DOTTED = re.compile(
    r"\.(?:[A-Za-z]{2}|7z| ?(?i:jpe?g|png|gif|tiff?|bmp|webp|svg|pdf|com|net|org)\b)", re.ASCII
)
_COLON = re.compile(r":[^ ]")
_SCHEME = re.compile(r"(?:mailto|javascript|tel|data|urn|magnet):[^ ]", re.IGNORECASE)
_CAMERA = re.compile(r"\bdsc", re.ASCII)
_REFERENCE = re.compile(r"\brh [\w-]+ com\b", re.ASCII)
_BRACKET = re.compile(r"\(\s*(?:\)|at\s*\))", re.IGNORECASE)

# What may stand on either side of a `<PERSON>` that is nothing but a name.
BEFORE_PERSON, BEHIND_PERSON = " (\"'", " ,.!?)\"':"


def is_suspect(text: str) -> bool:
    """Whether a caption may need cleaning."""
    if text.isascii():
        if _SIGNS_OR_CONTROLS.search(text) is not None:
            return True
    elif not is_usual(text) or _SIGNS.search(text) is not None:
        return True
    if "  " in text or text[:1] == " " or text[-1:] == " ":
        return True
    if "%" in text and _PERCENT.search(text) is not None:
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


_ALL = bytes(range(256))
_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_LETTERS = _LOWER + _LOWER.upper()
_NO_SPACE, _NO_WORD = _ALL.translate(None, b" "), _ALL.translate(None, _LETTERS + b"0123456789_")
# Four neighbours in a suspect. The two in the middle are looked for everywhere, the other two only beside
# them. Pairs of one group are looked for together, which finds a few more that are rare.
_BLANKS, _SIGN, _TP, _HR, _MG = range(-1, 4)
_FOURS = (
    (_SIGN, _ALL, b"<", _ALL, _ALL),
    (_SIGN, _ALL, bytes(n for n in _ALL if n < 32 or n > 126) + rb"@\[]{}_=`*;", _ALL, _ALL),
    (_HR, _ALL, b"r", b"h", b" "),
    (_MG, _ALL, b"d", b"s", b"c"),
    (_SIGN, _ALL, b"/&%", _NO_SPACE, _ALL),
    (_SIGN, b"otlan", b":", _NO_SPACE, _ALL),  # mailto, javascript, tel, data, urn, magnet
    (_SIGN, _ALL, b".", _LETTERS + b"7", _LETTERS),
    (_SIGN, _ALL, b".", b" ", b"jpgtbwscno"),  # `. jpg`
    (_SIGN, _ALL, b"(", b" )", _ALL),
    (_SIGN, _ALL, b"(", b"a", b"t"),
    (_TP, b"t", b"t", b"p", _ALL),  # http
    (_TP, _ALL, b"w", b"wp", b"w-"),  # www, wp-content
    (_HR, _ALL, b"h", b"r", b"e"),  # href
    (_MG, b"in", b"mb", b"gs", _ALL),  # img, nbsp
    (_BLANKS, _ALL, b" ", b" ", _ALL),
)
_TAG_BIT, _ODD_BIT = 0b1, 0b10
_WORD_BITS = 0b1100  # `rh ` and `dsc`, of the next two rows, are looked for at the start of a word


def _either_case(letters: bytes) -> list[int]:
    return [*{*letters.lower(), *letters.upper()}]


def _classes() -> bytes:
    """For every byte the groups of pairs that it begins, as the lower bits, and that it ends, as the upper."""
    bits = bytearray(256)
    for group, _, first, second, _ in _FOURS:
        if group != _BLANKS:
            for byte in _either_case(first):
                bits[byte] |= 1 << group
            for byte in _either_case(second):
                bits[byte] |= 16 << group
    return bytes(bits)


def _table(place: int) -> np.ndarray:
    """For every byte the `_FOURS` that have it in this place, as bits."""
    bits = np.zeros(256, np.uint16)
    for number, (_, *four) in enumerate(_FOURS):
        bits[_either_case(four[place])] |= 1 << number
    return bits


def _is_one_of(letters: bytes) -> np.ndarray:
    return np.isin(np.arange(256), [*letters])


_CLASSES = _classes()
_TABLES = tuple(map(_table, range(4)))
_IS_NO_WORD = _is_one_of(_NO_WORD)
_IS_BEFORE, _IS_BEHIND = map(_is_one_of, (BEFORE_PERSON.encode(), BEHIND_PERSON.encode()))
_PERSON = np.frombuffer(b"<PERSON>", np.uint64)
_PADDING = 10


def suspects_among(captions: pa.StringArray) -> tuple[list[int], list[int]]:
    """Places of the captions that may be suspects, ascending; a few of them are none.

    Args:
        captions: without nulls.

    Returns:
        Two lists. The second has those in which nothing is odd but `<PERSON>` between `BEFORE_PERSON`
        and `BEHIND_PERSON`, each as often as it stands there; the first all others.
    """
    _, offsets, data = captions.buffers()
    if not len(captions) or data is None:
        return [], []
    ends = np.frombuffer(offsets, np.int32)[captions.offset : captions.offset + len(captions) + 1]
    inside = memoryview(data)[ends[0] : ends[-1]]
    # Padded so that every byte has its neighbours; a `bytearray` is translated in half the time of `bytes`.
    text = bytearray().join((b"-", inside, b"-" * _PADDING))
    ends = ends - (ends[0] - 1)
    starts, last = ends[:-1], ends[1:] - 1
    letters = np.frombuffer(text, np.uint8)
    spaces = letters == ord(" ")
    places = _pairs(text, spaces)
    before, first, second, third = _TABLES
    found = before[letters[places - 1]] & first[letters[places]]
    found &= second[letters[places + 1]] & third[letters[places + 2]]
    places, found = places[found != 0], found[found != 0]
    rows = np.searchsorted(ends, places, side="right") - 1
    found[places == last[rows]] &= _ODD_BIT  # the other bytes are another caption's
    words = np.flatnonzero(found & _WORD_BITS)
    if len(words):
        at = places[words]
        within = ~(_IS_NO_WORD[letters[at - 1]] | (at == starts[rows[words]]))
        found[words[within]] &= 0xFFFF ^ _WORD_BITS
    tags = np.flatnonzero(found == _TAG_BIT)
    tags = tags[_is_person(text, letters, places[tags], starts[rows[tags]], last[rows[tags]])]
    persons = rows[tags]
    found[tags] = 0

    suspect = spaces[starts] | spaces[last]
    suspect[rows[found != 0]] = True
    return np.flatnonzero(suspect).tolist(), persons[~suspect[persons]].tolist()


def _pairs(text: bytearray, spaces: np.ndarray) -> np.ndarray:
    """Places in the text where a pair of the middle of `_FOURS` may begin, ascending.

    Args:
        text: with `_PADDING`.
        spaces: bool, shape (bytes of the text,).
    """
    size = (len(text) - _PADDING + 7) // 8 * 8
    classes = np.frombuffer(text.translate(_CLASSES), np.uint8)
    pairs = classes[1 : size + 1] >> 4
    pairs &= classes[:size]
    pairs |= (spaces[:size] & spaces[1 : size + 1]).view(np.uint8)
    # Eight at a time, as nearly all are 0.
    words = pairs.view(np.uint64)
    some = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words[some].view(np.uint8) != 0)
    return some[inside >> 3] * 8 + (inside & 7)


def _is_person(
    text: bytearray, letters: np.ndarray, at: np.ndarray, starts: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Whether `<PERSON>` begins there, alone; bool, shape (n,).

    Args:
        text: with `_PADDING`; `letters` are its bytes.
        at: places in the text, shape (n,).
        starts, last: of the captions that these places are in, shape (n,).
    """
    eight = np.ndarray((len(text) - 7,), np.uint64, text, strides=(1,))  # from every byte on
    end = at + 7
    alone = _IS_BEFORE[letters[at - 1]] | (at == starts)
    alone &= _IS_BEHIND[letters[end + 1]] | (end == last)
    return (eight[at] == _PERSON) & alone & (end <= last)
