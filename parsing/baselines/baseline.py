"""What the configurations and the parsers of all baselines share."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Self

from parsing.denial import without_denied
from parsing.normalise import LIBRARIES, Rules, default
from parsing.parser import Resources
from parsing.tags import EMPTY, TOO_LONG, Parsed
from parsing.versions import digest_of

MAX_CHARACTERS = 10_000  # memory and time of a parse grow with the caption


class BaselineConfig:
    """Base of a baseline's configuration, a frozen dataclass."""

    name: str

    def check(self) -> None:
        pass

    def pinned(self) -> Self:
        return self

    def fingerprint(self) -> dict[str, Any]:
        return {
            "parser": self.name,
            "normalisation": Rules.load().digest,
            "code": digest_of(sys.modules[type(self).__module__], libraries=LIBRARIES),
        }

    def about(self) -> dict[str, Any]:
        return {}

    def resources(self) -> Resources:
        return Resources(cpus=1)


class BaselineParser:
    """Base of a baseline's parser: skips captions that have no word or are too long."""

    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        skipped = [_skipped(caption) for caption in captions]
        texts = [text for text, result in zip(captions, skipped, strict=True) if result is None]
        found = map(_without_denied, texts, self.read_all(texts))
        return [next(found) if result is None else result for result in skipped]

    def read_all(self, captions: Sequence[str]) -> Iterable[Parsed]:
        """One result per caption, in the order given."""
        return map(self.read, captions)

    def read(self, caption: str) -> Parsed:
        raise NotImplementedError

    def close(self) -> None:
        pass


def _without_denied(caption: str, parsed: Parsed) -> Parsed:
    tags = without_denied(caption, parsed.objects, parsed.attributes, default().singular)
    parsed.objects, parsed.attributes = tags
    return parsed


def _skipped(caption: str) -> Parsed | None:
    if len(caption) > MAX_CHARACTERS:
        error = f"{len(caption)} characters; at most {MAX_CHARACTERS} are parsed"
        return Parsed(status=TOO_LONG, error=error)
    if not any(map(str.isalpha, caption)):
        return Parsed(status=EMPTY, error="no word in it that could be a tag")
    return None
