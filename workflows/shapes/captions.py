"""Captions of scenes as web pages have them, and their gold tags.

Captions leave things and attributes out, mention what no picture shows, and name makers and shops after
things of this world (`Red Key Studio`). Gold tags are what a caption says of its scene. With
`Manner.absent` captions also name things of this world that their scene does not show (`free hat with
every order`); those are no gold tags.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workflows.shapes.world import COLOURS, NAMES, Placed, Scene

SYNONYMS: dict[str, tuple[str, ...]] = {
    "house": ("cottage",), "boat": ("sailboat",), "cup": ("mug",), "car": ("automobile",),
    "umbrella": ("parasol",), "mushroom": ("toadstool",), "hat": ("top hat",),
}  # fmt: skip
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
TEXTURE_WORDS = {
    "striped": ("striped",),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "checkered"),
}
PLURALS = {"fish": "fish", "house": "houses"}
COUNTS = {2: "two", 3: "three", 4: "four"}
# Of each ground: the words, then the object and its attribute in them.
PLACES: dict[str, tuple[tuple[str, str, str | None], ...]] = {
    "grass": (("on the grass", "grass", None), ("on green grass", "grass", "green"),
              ("in the meadow", "meadow", None)),
    "sand": (("on the sand", "sand", None), ("on a sandy beach", "beach", "sandy")),
    "snow": (("in the snow", "snow", None), ("on white snow", "snow", "white")),
    "sky": (("in the sky", "sky", None), ("against a blue sky", "sky", "blue")),
    "wood": (("on a wooden floor", "floor", "wooden"), ("on a wooden table", "table", "wooden")),
    "brick": (("against a brick wall", "wall", "brick"), ("by the wall", "wall", None)),
    "water": (("in the water", "water", None), ("on blue water", "water", "blue")),
    "carpet": (("on the carpet", "carpet", None), ("on a soft carpet", "carpet", "soft")),
}  # fmt: skip
MAKERS = (
    "Brightwell", "Norwick", "Tillby", "Marlow & Finch", "Ostrava Living", "Penhall", "Quillon",
)  # fmt: skip
TRAPS = (
    "{colour} {thing} Studio", "{colour} {thing} Press", "The {thing} Company", "{thing} & Sons",
)  # fmt: skip
JOINS = (" and ", " with ", " next to ", " beside ", " near ")


@dataclass(frozen=True)
class Caption:
    """A caption and its gold tags: lower case, singular, each once, in the caption's order.

    Attributes:
        text: the caption.
        objects: what it says is there: things, and the ground where it is named.
        attributes: (attribute, object) pairs.
        mentioned: the places in `scene.placed` of the things that it names.
        absent_objects: things that it names and the scene does not show.
        absent_attributes: (attribute, object) pairs of those.
    """

    text: str
    objects: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    mentioned: tuple[int, ...]
    absent_objects: tuple[str, ...] = ()
    absent_attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Manner:
    """How much captions say; each is a probability. The defaults are the data set's.

    Attributes:
        colour, texture, size: that the caption says it of a thing; medium and plain have no word.
        place: that the caption says the ground.
        omitted: that a scene's last thing is not mentioned, where there are several.
        web: that the caption is written as on web pages, not plainly.
        predicate: that an attribute follows a verb (`the ball is red`).
        synonym: that a thing is called by its other name, where it has one.
        capital: that the caption begins with a capital letter.
        absent: that the caption also names one to three things which the scene does not show.
    """

    colour: float = 0.5
    texture: float = 0.5
    size: float = 0.45
    place: float = 0.45
    omitted: float = 0.2
    web: float = 0.55
    predicate: float = 0.12
    synonym: float = 0.12
    capital: float = 0.3
    absent: float = 0.0


@dataclass(frozen=True)
class _Mention:
    """One or several alike things as a caption names them."""

    name: str
    adjectives: tuple[str, ...]
    count: int = 1

    @property
    def bare(self) -> str:
        if self.count == 1:
            return " ".join((*self.adjectives, self.name))
        return f"{COUNTS[self.count]} {self.plural}"

    @property
    def plural(self) -> str:
        plural = PLURALS.get(self.name, self.name + ("es" if self.name.endswith("sh") else "s"))
        return " ".join((*self.adjectives, plural))


@lru_cache
def templates(kind: str) -> tuple[str, ...]:
    """Sentences of `plain_captions.txt`, `web_captions.txt` or `absent_captions.txt`, one a line.

    {a} stands for the things with their articles, {b} for the things without, {p} for the place or
    nothing, {brand} for a maker. In the third, {c} stands for the caption so far, and {x}, {ax} and {xs}
    for absent things: without articles, with them, and in the plural.
    """
    path = Path(__file__).with_name(f"{kind}_captions.txt")
    return tuple(path.read_text("utf-8").splitlines())


def write_caption(scene: Scene, rng: random.Random, manner: Manner = Manner()) -> Caption:
    """A caption for a scene, at random."""
    indices = list(range(len(scene.placed)))
    if len(indices) > 1 and rng.random() < manner.omitted:
        indices.pop()
    rng.shuffle(indices)
    mentions = _mentions([scene.placed[i] for i in indices], rng, manner)
    place = rng.choice(PLACES[scene.ground]) if rng.random() < manner.place else None
    if len(mentions) == 1 and mentions[0].count == 1 and rng.random() < manner.predicate:
        text, place = _predicate(mentions[0], place, rng)
    else:
        template = rng.choice(templates("web" if rng.random() < manner.web else "plain"))
        if "{p}" not in template:
            place = None
        text = template.format(
            a=_join([_article(m, rng) for m in mentions], rng),
            b=_join([m.bare for m in mentions], rng),
            p=place[0] if place else "",
            brand=_brand(rng) if "{brand}" in template else "",
        )
    absent: list[_Mention] = []
    if manner.absent and rng.random() < manner.absent:
        absent = _absent(scene, rng, manner)
        text = rng.choice(templates("absent")).format(
            c=text,
            x=_join([m.bare for m in absent], rng),
            ax=_join([_article(m, rng) for m in absent], rng),
            xs=_join([m.plural for m in absent], rng),
        )
    text = " ".join(text.split())
    if rng.random() < manner.capital:
        text = text[0].upper() + text[1:]
    objects = [m.name for m in mentions]
    pairs = [
        (adjective, m.name)
        for m in mentions
        for adjective in ((COUNTS[m.count],) if m.count > 1 else ()) + m.adjectives
    ]
    if place:
        objects.append(place[1])
        pairs += [(place[2], place[1])] if place[2] else []
    return Caption(
        text,
        tuple(dict.fromkeys(objects)),
        tuple(dict.fromkeys(pairs)),
        tuple(sorted(indices)),
        tuple(m.name for m in absent),
        tuple((adjective, m.name) for m in absent for adjective in m.adjectives),
    )


def _mentions(placed: Sequence[Placed], rng: random.Random, manner: Manner) -> list[_Mention]:
    kinds = Counter(p.thing for p in placed)
    together = {kind for kind, count in kinds.items() if count > 1 and rng.random() < 0.6}
    mentions = []
    for one in placed:
        name = one.thing
        if name in together:
            if kinds[name]:
                same = {(p.colour, p.texture) for p in placed if p.thing == name}
                shared = (one.colour,) if len(same) == 1 and rng.random() < manner.colour else ()
                mentions.append(_Mention(name, shared, kinds[name]))
                kinds[name] = 0
            continue
        if name in SYNONYMS and rng.random() < manner.synonym:
            name = rng.choice(SYNONYMS[name])
        adjectives = []
        if one.size in SIZE_WORDS and rng.random() < manner.size:
            adjectives.append(rng.choice(SIZE_WORDS[one.size]))
        if one.texture in TEXTURE_WORDS and rng.random() < manner.texture:
            adjectives.append(rng.choice(TEXTURE_WORDS[one.texture]))
        if rng.random() < manner.colour:
            adjectives.append(one.colour)
        mentions.append(_Mention(name, tuple(adjectives)))
    return mentions


def _absent(scene: Scene, rng: random.Random, manner: Manner) -> list[_Mention]:
    """One to three different things that the scene does not show."""
    shown = {one.thing for one in scene.placed}
    mentions = []
    for name in rng.sample([name for name in NAMES if name not in shown], rng.randint(1, 3)):
        adjectives = []
        if rng.random() < manner.texture / 2:
            adjectives.append(rng.choice(rng.choice(tuple(TEXTURE_WORDS.values()))))
        if rng.random() < manner.colour:
            adjectives.append(rng.choice(tuple(COLOURS)))
        if name in SYNONYMS and rng.random() < manner.synonym:
            name = rng.choice(SYNONYMS[name])
        mentions.append(_Mention(name, tuple(adjectives)))
    return mentions


def _predicate(
    mention: _Mention, place: tuple[str, str, str | None] | None, rng: random.Random
) -> tuple[str, tuple[str, str, str | None] | None]:
    """`the ball is red`; of a thing without attributes, where it is."""
    if not mention.adjectives:
        return (f"this {mention.name} is {place[0]}", place) if place else (
            f"my {mention.name} is the best in town", None)  # fmt: skip
    told = " and ".join(mention.adjectives[-2:])
    before = " ".join((*mention.adjectives[:-2], mention.name))
    where = place[0] if place else ""
    return f"{rng.choice(('the', 'this', 'my'))} {before} {where} is {told}", place


def _article(mention: _Mention, rng: random.Random) -> str:
    if mention.count > 1:
        return mention.bare
    article = "an" if mention.bare[0] in "aeiou" else "a"
    return f"{rng.choice((article,) * 6 + ('the', 'this', 'my'))} {mention.bare}"


def _join(phrases: Sequence[str], rng: random.Random) -> str:
    if len(phrases) > 2:
        return ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return rng.choice(JOINS).join(phrases)


def _brand(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return rng.choice(MAKERS)
    thing, colour = rng.choice(NAMES).title(), rng.choice(("Red", "Blue", "Green", "Silver"))
    return rng.choice(TRAPS).format(thing=thing, colour=colour)
