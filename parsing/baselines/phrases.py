"""From noun phrases to tags: what the parsers that read grammar share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import yaml

from parsing.normalise import Normaliser
from parsing.tags import Parsed

# Endings of adjectives that hardly any noun shares (leafless, framed, enormous).
_SUFFIXES = ("ed", "less", "ous", "ible")


class Words(dict[str, frozenset[str]]):
    """The classes of `words.yaml` by name.

    Attributes:
        digest: changes whenever the file does; part of a parser's fingerprint.
    """

    def __init__(self) -> None:
        text = Path(__file__).with_name("words.yaml").read_bytes()
        classes = yaml.safe_load(text).items()
        super().__init__((name, frozenset(words.split())) for name, words in classes)
        self.digest = hashlib.sha256(text).hexdigest()[:16]


class Phrases:
    """Says which tags a noun phrase or a predicate adds to a caption's."""

    def __init__(self) -> None:
        self.words = Words()
        self.normaliser = Normaliser()
        self._describing = self.words["colours"] | self.words["materials"]

    def text(self, caption: str) -> str:
        """The caption as taggers get it: lower case, with nouns for placeholders."""
        return self.normaliser.named(caption.lower())

    def describes(self, word: str) -> bool:
        """Whether a word describes the noun that follows it, even if a tagger calls it a noun."""
        if word in self._describing:
            return True
        # Not a flower bed, a lawn chair, a seaweed salad.
        return len(word) > 5 and word.endswith(_SUFFIXES) and not word.endswith("eed")

    def is_action(self, word: str) -> bool:
        """Whether a word that a tagger calls a noun says what somebody does (skiing)."""
        return word.endswith("ing") and word not in self.words["things"]

    def add(
        self, parsed: Parsed, modifiers: Sequence[str], nouns: Sequence[str], placed: bool, of: bool
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
        nouns, modifiers = list(nouns), list(modifiers)
        while len(nouns) > 1 and self.describes(nouns[0]):
            modifiers.append(nouns.pop(0))
        if nouns[-1] in self.words["places"]:
            if len(nouns) > 1:
                nouns.pop()  # mountain top
            elif placed or of:
                return None
        elif of and self.normaliser.singular(nouns[-1]) in self.words["quantities"]:
            return None
        thing = self.normaliser.object(" ".join(nouns))
        if thing is not None:
            if thing not in parsed.objects:
                parsed.objects.append(thing)
            self.describe(parsed, modifiers, thing)
        return thing

    def describe(self, parsed: Parsed, modifiers: Sequence[str], thing: str) -> None:
        """Adds attributes to an object that is already there; a shade and its colour are one."""
        attributes: list[str] = []
        for word in modifiers:
            shade = attributes and attributes[-1] in self.words["shades"]
            if shade and word in self.words["colours"]:
                attributes[-1] += f" {word}"
            elif word not in self.words["silent"]:
                attributes.append(word)
        for attribute in map(self.normaliser.attribute, attributes):
            if attribute is not None and (attribute, thing) not in parsed.attributes:
                parsed.attributes.append((attribute, thing))
