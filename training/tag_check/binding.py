"""Which object of a caption an attribute belongs to, told by their places in the caption alone.

A label file has the tags of a caption, and not which attribute is said of which object. An attribute is
bound to the object whose words stand nearest to its own; of two that are equally near, to the later one.
No rule of any language is used. An attribute that is farther than `FARTHEST` words from every object is
bound to none.
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
        attribute -> objects, one for each place where the caption says the attribute; an attribute that
        the caption does not say, or says far from every object, has an empty list.
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
    """Where the words of a tag stand in a row: (first word, word after the last)."""
    wanted = words(tag)
    size = len(wanted)
    return [
        (at, at + size)
        for at in range(len(spelt) - size + 1)
        if size and all(word in (spelt[at + i], plain[at + i]) for i, word in enumerate(wanted))
    ]
