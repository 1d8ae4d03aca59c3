"""The tags contract: what a parser says of a caption, and the Parquet schema it is stored in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

OK = "ok"  # the answer was read; it may hold no tags at all
EMPTY = "empty"  # the caption has no word that could be a tag: nothing was asked
TOO_LONG = "too_long"  # more tokens than the parser takes: nothing was asked
FAILED = "failed"  # malformed input, or the parser could not answer; `error` says which
STATUSES = (OK, EMPTY, TOO_LONG, FAILED)

TAGS = pa.schema(
    [
        pa.field("caption_id", pa.int64(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("objects", pa.list_(pa.string()), nullable=False),
        pa.field(
            "attributes",
            pa.list_(pa.struct([("attribute", pa.string()), ("object", pa.string())])),
            nullable=False,
        ),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("raw", pa.string()),
    ]
)


@dataclass(slots=True)
class Parsed:
    """What a parser says of one caption.

    Attributes:
        objects: lower-case object tags, each once, in the order of the answer.
        attributes: (attribute, object) pairs; every object of a pair is also in `objects`.
        status: one of `STATUSES`.
        error: why, where the status is not `ok`.
        raw: the answer as the model gave it, for those who want to read it again.
        prompt_tokens, output_tokens: what the answer cost; 0 where there is no model.
        dropped: how many tags of the answer were left out, since they use words that the caption
            lacks.
    """

    objects: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    status: str = OK
    error: str | None = None
    raw: str | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    dropped: int = 0


def tags_table(ids: Sequence[int], captions: Sequence[str], parsed: Sequence[Parsed]) -> pa.Table:
    """Lays out one shard as a table of schema `TAGS`, one row per caption, in the order given."""
    columns = [
        list(ids),
        list(captions),
        [p.objects for p in parsed],
        [[{"attribute": a, "object": o} for a, o in p.attributes] for p in parsed],
        [p.status for p in parsed],
        [p.error for p in parsed],
        [p.raw for p in parsed],
    ]
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, TAGS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=TAGS)


def count_statuses(parsed: Sequence[Parsed]) -> dict[str, int]:
    """Rows per status, with every status present."""
    counts = Counter(p.status for p in parsed)
    return {status: counts[status] for status in STATUSES}
