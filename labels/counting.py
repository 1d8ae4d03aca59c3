"""How many captions carry each tag, and which tags make the vocabulary.

Everything is a count of whole captions, so partial counts add up to the same total however the
captions are cut into shards, and the order of tags is settled by count and then by the tag itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from labels.runs import COLUMNS, Piece, scan
from labels.vocabulary import KINDS, OBJECT, Vocabulary
from parsing.errors import UserError
from parsing.tags import EMPTY, OK

COUNTS = {"kind": pl.Enum(KINDS), "tag": pl.String, "count": pl.Int64}


@dataclass(frozen=True)
class Counted:
    """What one look at the tags of some captions gives.

    Attributes:
        tags: columns of `COUNTS`: captions that carry each tag, each caption once.
        captions: captions looked at, those that could not be parsed included.
        unparsed: captions whose status is neither `ok` nor `empty`.
    """

    tags: pl.DataFrame
    captions: int
    unparsed: int


def tags_of(kind: str, synonyms: Mapping[str, str]) -> pl.Expr:
    """The tags of one kind that a caption carries: a list of strings, possibly null, with repetitions."""
    tags = pl.col(COLUMNS[kind])
    if kind != OBJECT:
        tags = tags.list.eval(pl.element().struct.field("attribute"))
    if synonyms:
        tags = tags.list.eval(pl.element().replace(list(synonyms), list(synonyms.values())))
    return tags


def count_pieces(
    pieces: Iterable[Piece], kinds: Collection[str], synonyms: Mapping[str, str], has_status: bool
) -> Counted:
    """Counts in one streaming query; a tag twice in a caption counts once, null and "" never."""
    rows = scan(pieces)
    parsed = pl.col("status").is_in([OK, EMPTY]) if has_status else pl.lit(True)
    queries = [rows.select(captions=pl.len(), unparsed=(~parsed).sum())]
    for kind in kinds:
        # Unique within the list first: a caption carries a tag or does not.
        tag = tags_of(kind, synonyms).list.unique().list.explode(empty_as_null=False)
        found = rows.select(tag=tag).filter(pl.col("tag") != "").group_by("tag")
        queries.append(found.agg(count=pl.len()).select(pl.lit(kind).alias("kind"), "tag", "count"))
    totals, *tables = pl.collect_all(queries, engine="streaming")
    captions, unparsed = totals.row(0)
    return Counted(pl.concat(t.cast(COUNTS) for t in tables), captions, unparsed)


def add_up(parts: Iterable[Counted]) -> Counted:
    """The counts of several disjoint sets of captions together, added as they come."""
    parts = iter(parts)
    total = next(parts, Counted(pl.DataFrame(schema=COUNTS), 0, 0))
    for part in parts:
        tags = pl.concat([total.tags, part.tags]).group_by("kind", "tag").agg(pl.col("count").sum())
        total = Counted(tags, total.captions + part.captions, total.unparsed + part.unparsed)
    return total


def rank(counted: Counted, stop_tags: Collection[str], min_count: int) -> dict[str, pl.DataFrame]:
    """Per kind the tags that may enter a vocabulary, most frequent first.

    Ties are broken by the tag's own order, code point by code point.

    Returns:
        kind -> columns `tag` (string), `count` (int64).

    Raises:
        UserError: nothing is left.
    """
    may = (pl.col("count") >= min_count) & ~pl.col("tag").is_in(list(stop_tags))
    left = counted.tags.filter(may).sort(["count", "tag"], descending=[True, False])
    if left.is_empty():
        why = f" with {min_count} captions or more" if min_count > 1 else ""
        raise UserError(
            f"no tag{why} in {counted.captions} captions: there is nothing to label with"
        )
    return {kind: left.filter(kind=kind).select("tag", "count") for kind in KINDS}


def choose(
    ranked: Mapping[str, pl.DataFrame], sizes: Mapping[str, int], captions: int
) -> Vocabulary:
    """The most frequent tags of each kind: objects first, then attributes, each by falling count.

    Args:
        ranked: of `rank`.
        sizes: kind -> how many tags at most, the paper's K.
        captions: the denominator of the frequencies.
    """
    tags, kinds, counts = [], [], []
    for kind, size in sizes.items():
        top = ranked[kind].head(size)
        tags += top["tag"].to_list()
        kinds += [kind] * len(top)
        counts.append(top["count"].to_numpy())
    return Vocabulary(tags, kinds, np.concatenate(counts), captions)


def count_list(
    ranked: Mapping[str, pl.DataFrame],
    wanted: Collection[str],
    kinds: Collection[str],
    captions: int,
) -> Vocabulary:
    """The tags of a list, in its order, as far as they occur; once per kind as which they occur."""
    tags, found_kinds, counts = [], [], []
    for kind in kinds:
        found = pl.DataFrame({"tag": list(wanted)}, schema={"tag": pl.String}).join(
            ranked[kind], on="tag", how="inner", maintain_order="left"
        )
        tags += found["tag"].to_list()
        found_kinds += [kind] * len(found)
        counts.append(found["count"].to_numpy())
    return Vocabulary(tags, found_kinds, np.concatenate(counts), captions)
