"""Tags of a fixed list, found in the caption word for word: the `Tag2Text` row of Table 4.

Tag2Text (Huang et al., 2023) labels images with the tags of a list that its captions mention; the
paper compares with the list of 4,585 tags of its successor RAM. A list doesn't say which tags
are attributes, so all of them come out as objects.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import simplemma

from common.errors import UserError
from parsing.baselines.baseline import BaselineConfig, BaselineParser
from parsing.normalise import Normaliser
from parsing.tags import Parsed

_WORD = re.compile(r"[^\W_]+(?:['’&-][^\W_]+)*")


@dataclass(frozen=True)
class Tag2TextConfig(BaselineConfig):
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

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256("\n".join(self.tags).encode()).hexdigest()[:16]
        return super().fingerprint() | {"tags": digest}

    def build(self) -> Tag2TextParser:
        return Tag2TextParser(self)


class Tag2TextParser(BaselineParser):
    """Finds the longest tags, leftmost first and without overlap.

    A word of the caption matches a word of a tag in its own form, else in the singular, else as
    its lemma (`wolves running` names `wolf` and `run`).
    """

    def __init__(self, config: Tag2TextConfig):
        self._normaliser = Normaliser()
        self._tags: dict[tuple[str, ...], str] = {}
        spelt = {tag: _WORD.findall(self._normaliser.named(tag)) for tag in config.tags}
        self._words = frozenset(chain(*spelt.values()))
        for tag, words in spelt.items():
            # A tag that normalisation drops is no more seen here than in any other parser.
            if words and self._normaliser.object(tag) is not None:
                singular = self._normaliser.singular(words[-1])
                self._tags.setdefault(tuple(words), tag)
                self._tags.setdefault((*words[:-1], singular), tag)
        # By a tag's first word, the number of words of the longest such tag.
        self._longest: dict[str, int] = {}
        for words in self._tags:
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))
        self._forms = lru_cache(500_000)(self._find_forms)

    def read(self, caption: str) -> Parsed:
        words = _WORD.findall(self._normaliser.named(caption.lower()))
        words = list(chain.from_iterable(map(self._forms, words)))
        found: dict[str, None] = {}
        start = 0
        while start < len(words):
            length = self._longest.get(words[start], 0)
            while length and tuple(words[start : start + length]) not in self._tags:
                length -= 1
            if length:
                found[self._tags[tuple(words[start : start + length])]] = None
            start += length or 1
        return Parsed(list(found))

    def _find_forms(self, word: str) -> list[str]:
        """A word of a caption in the form in which the tags may hold it; parts of a compound."""
        bare = re.sub(r"['’]s?$", "", word) or word
        singular = self._normaliser.singular(bare)
        for form in (word, bare, singular, simplemma.lemmatize(bare, lang="en").lower()):
            if form in self._words:
                return [form]
        parts = [part for part in word.split("-") if part]  # `-free` begins with one
        return list(chain(*map(self._find_forms, parts))) if len(parts) > 1 else [singular]
