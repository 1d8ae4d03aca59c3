"""Tags of a fixed list, found in the caption word for word: the `Tag2Text` row of Table 4.

Tag2Text (Huang et al., 2023) labels images with the tags of a list that its captions mention; the
paper compares with the list of 4,585 tags of its successor RAM. A list doesn't say which tags
are attributes, so all of them come out as objects.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import ahocorasick
import simplemma

from common.errors import UserError
from parsing.normalise import Normaliser, Rules
from parsing.parser import Resources
from parsing.tags import EMPTY, Parsed

_WORD = re.compile(r"[^\W_]+(?:['’&-][^\W_]+)*")
_OPEN, _CLOSE = "\x02", "\x03"  # around every word, so that matches begin and end with words


@dataclass(frozen=True)
class Tag2TextConfig:
    """Settings of the Tag2Text parser; the tags are read at once and travel with it.

    Attributes:
        tag_list: a text file, one tag per line.
        tags: its tags in lower case, each once, in the file's order.

    Raises:
        UserError: no list was given, or the file is missing, unreadable or empty.
    """

    tag_list: str | Path | None = None
    name: str = "tag2text"
    concurrency: int = 1
    tags: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.tag_list:
            raise UserError(
                "the tag2text parser needs a list of tags, one per line: give --tag-list"
            )
        try:
            lines = Path(self.tag_list).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot read the tag list {self.tag_list}: {reason}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"the tag list {self.tag_list} is not UTF-8 text") from error
        tags = dict.fromkeys(" ".join(line.lower().split()) for line in lines)
        tags.pop("", None)
        if not tags:
            raise UserError(f"the tag list {self.tag_list} holds no tags")
        object.__setattr__(self, "tags", tuple(tags))

    def check(self) -> None:
        """All is checked when the configuration is made."""

    def fingerprint(self) -> dict[str, Any]:
        return {
            "parser": self.name,
            "tags": hashlib.sha256("\n".join(self.tags).encode()).hexdigest()[:16],
            "normalisation": Rules.load().digest,
        }

    def about(self) -> dict[str, Any]:
        return {}

    def resources(self) -> Resources:
        return Resources(cpus=1)

    def build(self) -> Tag2TextParser:
        return Tag2TextParser(self)


class Tag2TextParser:
    """Finds the longest tags, leftmost first and without overlap, in one pass over a caption.

    A word of the caption matches a word of a tag in its own form, else in the singular, else as
    its lemma (`wolves running` names `wolf` and `run`).
    """

    def __init__(self, config: Tag2TextConfig):
        self._normaliser = Normaliser()
        self._automaton = ahocorasick.Automaton()
        spelt = {tag: _WORD.findall(self._normaliser.named(tag)) for tag in config.tags}
        self._words = {word for words in spelt.values() for word in words}
        for tag, words in spelt.items():
            # A tag that normalisation drops is no more seen here than in any other parser.
            if words and self._normaliser.object(tag) is not None:
                for key in dict.fromkeys((self._key(words), self._key(self._singular(words)))):
                    if not self._automaton.exists(key):
                        self._automaton.add_word(key, (len(key), tag))
        self._automaton.make_automaton()
        self._matching = len(self._automaton) > 0
        self._marked = lru_cache(500_000)(self._mark)

    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        return [self._parse(caption) for caption in captions]

    def close(self) -> None:
        pass

    def _parse(self, caption: str) -> Parsed:
        words = _WORD.findall(self._normaliser.named(caption.lower()))
        if not words:
            return Parsed(status=EMPTY, error="no word in it that could be a tag")
        if not self._matching:
            return Parsed()
        text = "".join(map(self._marked, words))
        return Parsed(list(dict.fromkeys(self._longest(text))))

    def _longest(self, text: str) -> Iterator[str]:
        """The longest tag at each place, leftmost first, none overlapping one before.

        Chosen from all matches: the automaton's own search for the longest ones loses a tag that
        begins inside a longer one which then doesn't come about (`big` after `dog house`, where
        `big dog house` is a tag as well).
        """
        found = [
            (end + 1 - length, -length, tag) for end, (length, tag) in self._automaton.iter(text)
        ]
        free = 0
        for start, minus_length, tag in sorted(found):
            if start >= free:
                free = start - minus_length
                yield tag

    @staticmethod
    def _key(words: Sequence[str]) -> str:
        return "".join(f"{_OPEN}{word}{_CLOSE}" for word in words)

    def _singular(self, words: list[str]) -> list[str]:
        return [*words[:-1], self._normaliser.singular(words[-1])]

    def _mark(self, word: str) -> str:
        """A word of a caption in the form in which the tags may hold it, between marks."""
        bare = re.sub(r"['’]s?$", "", word)
        singular = self._normaliser.singular(bare)
        for form in (word, bare, singular, simplemma.lemmatize(bare, lang="en").lower()):
            if form in self._words:
                return self._key([form])
        if "-" in word:
            return "".join(self._mark(part) for part in word.split("-"))
        return self._key([singular])
