"""What a scene shows, in every word that captions of this world have for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from workflows.shapes.captions import COUNTS, PLACES, SIZE_WORDS, SYNONYMS, TEXTURE_WORDS
from workflows.shapes.world import Scene


@dataclass(frozen=True)
class Shown:
    """The tags that are true of a scene, whether or not its caption says them.

    Attributes:
        objects: the things with their other names, and the ground.
        pairs: (attribute, object) of those.
    """

    objects: frozenset[str]
    pairs: frozenset[tuple[str, str]]


def shown(scene: Scene) -> Shown:
    """What is true of a scene."""
    objects: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for one in scene.placed:
        words = (
            one.colour,
            *SIZE_WORDS.get(one.size, ()),
            *TEXTURE_WORDS.get(one.texture, ()),
        )
        names = (one.thing, *SYNONYMS.get(one.thing, ()))
        objects.update(names)
        pairs.update((word, name) for word in words for name in names)
    for thing, count in Counter(one.thing for one in scene.placed).items():
        if count > 1:
            pairs.update((COUNTS[count], name) for name in (thing, *SYNONYMS.get(thing, ())))
    for _, ground, attribute in PLACES[scene.ground]:
        objects.add(ground)
        if attribute:
            pairs.add((attribute, ground))
    return Shown(frozenset(objects), frozenset(pairs))
