"""Words of a text in any script, and whether a tag is made of a caption's words.

A word is a run of letters, combining marks and digits. In a script without spaces (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) every character with its marks is a word, since where longer
words end there is not written.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import regex

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = regex.compile(
    rf"{_UNSPACED}\p{{M}}*"
    rf"|(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+"
    rf"(?:['’&\-](?!s\b)(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+)*"
)
_IS_UNSPACED = regex.compile(_UNSPACED)


def words(text: str) -> list[str]:
    """Words of a text in their order, spelt as in the text, without punctuation.

    A hyphen, an apostrophe or `&` inside a word is part of it (`t-shirt`, `m&m`); a possessive `'s`
    is not.
    """
    return _WORD.findall(text)


def is_unspaced(word: str) -> bool:
    """Whether a word of `words` belongs to a script without spaces."""
    return _IS_UNSPACED.match(word) is not None


def joined(run: Iterable[str]) -> str:
    """Words as text: a space between two words, none between two of a script without spaces."""
    text, before = "", ""
    for word in run:
        apart = before and not (is_unspaced(before) and is_unspaced(word))
        text += f" {word}" if apart else word
        before = word
    return text


class Grounding:
    """Decides whether a text uses a caption's words alone.

    Args:
        caption: the caption, in any case.
        singular: maps a lower-case word to its singular. A text may use the singular of a word of
            the caption, since that is the form that tags get.
    """

    def __init__(self, caption: str, singular=lambda word: word):
        found = words(caption.casefold())
        self._known = set(found)
        for word in found:
            self._known |= {*word.split("-"), singular(word)}
        self._known |= {
            first + second for first, second in pairwise(found)
        }  # `tea cup` for `teacup`
        self._unspaced = "".join(filter(is_unspaced, found))

    def admits(self, text: str) -> bool:
        """Whether every word of the text is one of the caption's; False for a text without words.

        Words of a script without spaces must stand side by side in the caption.
        """
        found = words(text.casefold())
        runs: list[str] = [""]
        for word in found:
            if is_unspaced(word):
                runs[-1] += word
                continue
            runs.append("")
            if word not in self._known:
                return False
        return bool(found) and all(run in self._unspaced for run in runs)
