"""Words of a text in any script, and whether a tag is made of a caption's words.

A word is a run of letters, combining marks and digits. In a script without spaces (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) every character with its marks is a word, since where longer
words end there is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from functools import cached_property
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


def solid(run: Iterable[str]) -> str:
    """Words without spaces and hyphens: what `t-shirt`, `t shirt` and `tshirt` share."""
    return "".join(run).replace("-", "")


class Grounding:
    """Decides whether a text uses a caption's words alone.

    How a compound is written counts for nothing: `teacup`, `tea-cup` and `tea cup` are one.

    Args:
        caption: the caption, in any case.
        singular: maps a lower-case word to its singular. A text may use the singular of a word of
            the caption, since that is the form that tags get.
    """

    def __init__(self, caption: str, singular: Callable[[str], str] = lambda word: word):
        self._words = words(caption.casefold())
        self._singular = singular
        self._known = self._forms(self._words)
        self._unspaced = "".join(filter(is_unspaced, self._words))

    def _forms(self, found: Iterable[str]) -> set[str]:
        return {
            form
            for word in found
            for form in (*word.split("-"), solid([word]), solid([self._singular(word)]))
        }

    @cached_property
    def _known_and_compounds(self) -> set[str]:
        """Asked for last: few tags need it, and no cache knows the singulars of such words."""
        return self._known | self._forms(map("".join, pairwise(self._words)))

    def admits(self, text: str) -> bool:
        """Whether every word of the text is one of the caption's; False for a text without words.

        Words of a script without spaces must stand side by side in the caption.
        """
        found = words(text.casefold())
        runs, spaced = [""], []
        for word in found:
            if is_unspaced(word):
                runs[-1] += word
            else:
                runs.append("")
                spaced.append(word)
        return (
            bool(found)
            and all(run in self._unspaced for run in runs)
            and (made_of(spaced, self._known) or made_of(spaced, self._known_and_compounds))
        )


def made_of(run: Sequence[str], known: Container[str]) -> bool:
    """Whether all words of a run are known, each alone or together with the next (`tea cup`).

    Args:
        known: words as `solid` writes them.
    """
    if not run:
        return True
    if solid(run[:1]) in known and made_of(run[1:], known):
        return True
    return len(run) > 1 and solid(run[:2]) in known and made_of(run[2:], known)
