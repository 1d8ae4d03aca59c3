"""What a picture can't show, by name: times, events, ideas, feelings (`unseen.yaml`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from parsing.normalise import Normaliser, default

DATA = Path(__file__).with_name("unseen.yaml")


@dataclass(frozen=True)
class Unseen:
    """The word lists of `unseen.yaml`, which says what they are.

    Attributes:
        things: names, of one word or two, of what can't be seen.
        endings: of further such names.
        endings_of_things: words that only end so.
        opinions: adjectives that say nothing of a look.
        normaliser: finds the singular of a plural.
        digest: changes whenever a list does.
    """

    things: frozenset[str]
    endings: tuple[str, ...]
    endings_of_things: frozenset[str]
    opinions: frozenset[str]
    normaliser: Normaliser
    digest: str

    @classmethod
    def load(cls) -> Unseen:
        text = DATA.read_bytes()
        lists = yaml.safe_load(text)
        rest = {name: lists.pop(name) for name in ("endings", "endings_of_things", "opinions")}
        return cls(
            things=frozenset(word for words in lists.values() for word in words),
            endings=tuple(rest["endings"]),
            endings_of_things=frozenset(rest["endings_of_things"]),
            opinions=frozenset(rest["opinions"]),
            normaliser=default(),
            digest=hashlib.sha256(text).hexdigest()[:16],
        )

    def is_name(self, words: Sequence[str]) -> bool:
        """Whether lower-case words, the last of which is the head, name what can't be seen."""
        if not words:
            return False
        head = self.normaliser.singular(words[-1])
        for form in (words[-1], head):
            if form in self.things or " ".join([*words[-2:-1], form]) in self.things:
                return True
        return head.endswith(self.endings) and head not in self.endings_of_things
