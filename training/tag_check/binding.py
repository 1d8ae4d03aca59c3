"""Binds an attribute to an object of its caption by their distance in the caption alone.

A label file has the tags of a caption, but not which attribute is said of which object. An attribute is
bound to the object whose words are the nearest to its own; of two at the same distance, to the later one.
No rule of any language is used. An attribute with more than `FARTHEST` words between it and every object
is bound to none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from parsing.normalise import default
from parsing.words import words

FARTHEST = 4  # words between an attribute and its object


def bind(caption: str, objects: Iterable[str], attributes: Iterable[str]) -> dict[str, list[str]]:
    """The objects of each attribute.

    Args:
        caption: the text.
        objects, attributes: its tags.

    Returns:
        attribute -> its objects, at most one for each place of the attribute in the caption; empty for an
        attribute that the caption lacks, or that is far from every object.
    """
    spelt = words(caption.casefold())
    plain = [default().singular(word) for word in spelt]
    places = [(at, end, tag) for tag in objects for at, end in _places(tag, spelt, plain)]
    bound: dict[str, list[str]] = {}
    for attribute in attributes:
        found = []
        for at, end in _places(attribute, spelt, plain):
            if places:
                apart = [
                    (max(begin - end, at - stop, 0), begin < at, tag) for begin, stop, tag in places
                ]
                distance, _, tag = min(apart, key=lambda one: one[:2])
                if distance <= FARTHEST and tag not in found:
                    found.append(tag)
        bound[attribute] = found
    return bound


def _places(tag: str, spelt: Sequence[str], plain: Sequence[str]) -> list[tuple[int, int]]:
    """Where the words of a tag follow each other: (first word, word after the last)."""
    wanted = words(tag)
    size = len(wanted)
    return [
        (at, at + size)
        for at in range(len(spelt) - size + 1)
        if size and all(word in (spelt[at + i], plain[at + i]) for i, word in enumerate(wanted))
    ]
