"""From noun phrases to tags: what the parsers that read grammar have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from parsing.normalise import Normaliser
from parsing.tags import Parsed

# Endings of adjectives that hardly any noun shares (leafless, framed, enormous).
_SUFFIXES = ("ed", "less", "ous", "ible")


@dataclass(frozen=True)
class Words:
    """The classes of `words.yaml`, and a digest that changes whenever they do."""

    colours: frozenset[str]
    shades: frozenset[str]
    materials: frozenset[str]
    pointing: frozenset[str]
    position: frozenset[str]
    quantities: frozenset[str]
    places: frozenset[str]
    pictures: frozenset[str]
    prepositions: frozenset[str]
    things: frozenset[str]
    digest: str

    @classmethod
    def load(cls) -> Words:
        text = Path(__file__).with_name("words.yaml").read_bytes()
        classes = {name: frozenset(words) for name, words in yaml.safe_load(text).items()}
        return cls(**classes, digest=hashlib.sha256(text).hexdigest()[:16])


class Phrases:
    """Says which tags a noun phrase or a predicate adds to a caption's."""

    def __init__(self, words: Words, normaliser: Normaliser):
        self.words = words
        self.normaliser = normaliser
        self.describes = lru_cache(100_000)(self._describes)
        # `one` is mostly a pronoun, and nobody counts to it.
        self.silent = words.pointing | words.position | {"one", "1"}
        self._counting = words.quantities | words.places | words.pictures

    def _describes(self, noun: str) -> bool:
        """Whether what a tagger calls a noun describes the noun that follows it."""
        if noun in self.words.colours or noun in self.words.materials:
            return True
        if len(noun) < 6 or noun.endswith("eed"):  # a flower bed, a lawn chair, a seaweed salad
            return False
        return noun.endswith(_SUFFIXES)

    def add(
        self,
        parsed: Parsed,
        modifiers: Sequence[str],
        nouns: Sequence[str],
        placed: bool = False,
        of: bool = False,
    ) -> str | None:
        """Adds the tags of one noun phrase.

        Args:
            parsed: where to.
            modifiers: adjectives, participles and numbers before the nouns.
            nouns: the run of nouns, its head last.
            placed: the phrase follows a preposition or a possessor.
            of: the phrase is followed by `of`.

        Returns:
            The object, or None where the phrase names no thing of its own: `a number of`, `in
            front of`, `a picture of`.
        """
        start, last = 0, len(nouns) - 1
        while start < last and self.describes(nouns[start]):
            start += 1
        if start:
            modifiers, nouns = [*modifiers, *nouns[:start]], nouns[start:]
        head = nouns[-1]
        if head in self._counting:
            if len(nouns) > 1 and head in self.words.places:
                nouns = nouns[:-1]  # mountain top
            elif of or (placed and head in self.words.places):
                return None
        thing = self.normaliser.object(" ".join(nouns))
        if thing is not None:
            if thing not in parsed.objects:
                parsed.objects.append(thing)
            if modifiers:
                self.describe(parsed, modifiers, thing)
        return thing

    def describe(self, parsed: Parsed, modifiers: Sequence[str], thing: str) -> None:
        """Adds attributes to an object that is already there."""
        shade = ""
        for modifier in modifiers:
            if modifier in self.silent:
                continue
            if shade:
                if modifier in self.words.colours:
                    modifier = f"{shade} {modifier}"
                else:
                    self._pair(parsed, shade, thing)
                shade = ""
            elif modifier in self.words.shades:
                shade = modifier
                continue
            self._pair(parsed, modifier, thing)
        if shade:
            self._pair(parsed, shade, thing)

    def _pair(self, parsed: Parsed, modifier: str, thing: str) -> None:
        attribute = self.normaliser.attribute(modifier)
        if attribute is not None and (attribute, thing) not in parsed.attributes:
            parsed.attributes.append((attribute, thing))
