"""A piece of a shard: what one actor gets at once, and how it is tried again after a failure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from parsing.tags import FAILED, Parsed, count_statuses, tags_table

MAX_DEATHS = 2  # of actors that had a piece, before the piece is split in half


@dataclass(frozen=True)
class Piece:
    """Captions of one shard: the whole shard, or a part of it after a failure.

    Attributes:
        shard: number of the shard.
        captions: schema `parsing.source.captions.CAPTIONS`.
        deaths: parsers that died while they had it.
        error: why its one caption can't be parsed, or None.
    """

    shard: int
    captions: pa.Table
    deaths: int = 0
    error: str | None = None

    def after_death(self) -> list[Piece]:
        """The pieces to try next: this one again, or its two halves."""
        again = replace(self, deaths=self.deaths + 1)
        if len(self.captions) == 1 and again.deaths > MAX_DEATHS:
            error = f"{again.deaths} parsers died while they had this caption"
            return [replace(again, error=error)]
        if again.deaths < MAX_DEATHS or len(self.captions) == 1:
            return [again]
        return self._halves(deaths=1)

    def after_error(self, error: str) -> list[Piece]:
        """The pieces to try next after an exception: halves, since the whole would raise it again."""
        if len(self.captions) == 1:
            return [replace(self, error=f"the parser failed: {error}")]
        return self._halves(deaths=self.deaths)

    @property
    def is_suspect(self) -> bool:
        """Whether an actor died on it. It then runs alone, so that no other piece is blamed."""
        return self.deaths > 0

    @property
    def is_hopeless(self) -> bool:
        return self.error is not None

    def failed(self) -> tuple[pa.Table, dict[str, Any]]:
        """Tags and stats of a piece that cannot be parsed: failed rows."""
        parsed = [Parsed(status=FAILED, error=self.error) for _ in range(len(self.captions))]
        ids, texts = (self.captions[name].to_pylist() for name in ("caption_id", "caption"))
        stats = {"rows": len(parsed), "statuses": count_statuses(parsed)}
        return tags_table(ids, texts, parsed), stats

    def _halves(self, deaths: int) -> list[Piece]:
        half = len(self.captions) // 2
        parts = (self.captions.slice(0, half), self.captions.slice(half))
        return [Piece(self.shard, part, deaths) for part in parts]
