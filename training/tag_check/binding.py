"""Where a caption says its tags, and which object it binds an attribute to.

A label file has the tags of a caption, but not which attribute is said of which object. An attribute is
bound to the object whose words are the nearest to its own; of two at the same distance, to the later one.
No rule of any language is used. An attribute with more than `FARTHEST` words between it and every object
is bound to none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

from parsing.normalise import default
from parsing.words import words

FARTHEST = 4  # words between an attribute and its object

_words = lru_cache(1 << 17)(lambda tag: tuple(words(tag)))


class Mentions:
    """The words of a caption, in which tags are looked up."""

    def __init__(self, caption: str):
        self._spelt = words(caption.casefold())
        self._plain = [default().singular(word) for word in self._spelt]
        self._at = defaultdict(list)  # word -> its places
        for at, (spelt, plain) in enumerate(zip(self._spelt, self._plain, strict=True)):
            self._at[spelt].append(at)
            if plain != spelt:
                self._at[plain].append(at)

    def places(self, tag: str) -> list[tuple[int, int]]:
        """Where the words of a tag follow each other: (first word, word after the last)."""
        wanted = _words(tag)
        size = len(wanted)
        if not size:
            return []
        return [
            (at, at + size)
            for at in self._at.get(wanted[0], ())
            if at + size <= len(self._spelt)
            and all(
                word in (self._spelt[at + i], self._plain[at + i]) for i, word in enumerate(wanted)
            )
        ]


def bind(
    mentions: Mentions, objects: Iterable[str], attributes: Iterable[str]
) -> dict[str, list[str]]:
    """The objects of each attribute.

    Args:
        mentions: the caption.
        objects, attributes: its tags.

    Returns:
        attribute -> its objects, at most one for each place of the attribute in the caption; empty for an
        attribute that the caption lacks, or that is far from every object.
    """
    places = [(at, end, tag) for tag in objects for at, end in mentions.places(tag)]
    bound: dict[str, list[str]] = {}
    for attribute in attributes:
        found: list[str] = []
        for at, end in mentions.places(attribute):
            if places:
                apart = [
                    (max(begin - end, at - stop, 0), begin < at, tag) for begin, stop, tag in places
                ]
                distance, _, tag = min(apart, key=lambda one: one[:2])
                if distance <= FARTHEST and tag not in found:
                    found.append(tag)
        bound[attribute] = found
    return bound
