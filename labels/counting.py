"""Counts the captions of each tag and chooses the tags of the vocabulary.

A tag's count is a number of captions, so the counts of disjoint sets of captions add up to the same
total however the captions are cut into shards. Tags are ordered by falling count, then by the tag.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from common.errors import UserError
from labels.tag_folders import COLUMNS, RowGroup, scan
from labels.vocabulary import KINDS, OBJECT, Vocabulary
from parsing.tags import EMPTY, OK

COUNTS = {"kind": pl.Enum(KINDS), "tag": pl.String, "count": pl.Int64}


@dataclass(frozen=True)
class TagCounts:
    """Counts over a set of captions.

    Attributes:
        tags: columns of `COUNTS`: the number of captions with each tag, each caption once.
        captions: number of captions, those that could not be parsed included.
        unparsed: number of captions whose status is neither `ok` nor `empty`.
    """

    tags: pl.DataFrame
    captions: int
    unparsed: int


def tags_of(kind: str, synonyms: Mapping[str, str]) -> pl.Expr:
    """The tags of one kind of each caption: a list of strings, possibly null, with repetitions."""
    tags = pl.col(COLUMNS[kind])
    if kind != OBJECT:
        tags = tags.list.eval(pl.element().struct.field("attribute"))
    if synonyms:
        tags = tags.list.eval(pl.element().replace(list(synonyms), list(synonyms.values())))
    return tags


def count_row_groups(
    row_groups: Iterable[RowGroup],
    kinds: Collection[str],
    synonyms: Mapping[str, str],
    has_status: bool,
) -> TagCounts:
    """Counts tags in one streaming query; a tag twice in a caption counts once, null and blanks never.

    Args:
        row_groups: the captions.
        kinds: the kinds of tags to count.
        synonyms: tag -> tag to count it as.
        has_status: the files have the column `status`; without it every caption counts as parsed.
    """
    rows = scan(row_groups)
    parsed = pl.col("status").is_in([OK, EMPTY]) if has_status else pl.lit(True)
    queries = [rows.select(captions=pl.len(), unparsed=(~parsed).sum())]
    for kind in kinds:
        # Unique within the list first, as a count is a number of captions.
        tag = tags_of(kind, synonyms).list.unique().list.explode(empty_as_null=False)
        found = rows.select(tag=tag).group_by("tag").agg(count=pl.len())
        found = found.filter(pl.col("tag").str.strip_chars() != "")
        queries.append(found.select(pl.lit(kind).alias("kind"), "tag", "count"))
    totals, *tables = pl.collect_all(queries, engine="streaming")
    captions, unparsed = totals.row(0)
    return TagCounts(pl.concat(t.cast(COUNTS) for t in tables), captions, unparsed)


def add_up(parts: Iterable[TagCounts]) -> TagCounts:
    """Adds the counts of disjoint sets of captions, one set at a time."""
    parts = iter(parts)
    total = next(parts, TagCounts(pl.DataFrame(schema=COUNTS), 0, 0))
    for part in parts:
        tags = pl.concat([total.tags, part.tags]).group_by("kind", "tag").agg(pl.col("count").sum())
        total = TagCounts(tags, total.captions + part.captions, total.unparsed + part.unparsed)
    return total


def spellings(tags: Iterable[str]) -> dict[str, str]:
    """Tags that are not in NFC, such as `cafe` with a combining accent -> the same in NFC."""
    found = ((tag, unicodedata.normalize("NFC", tag)) for tag in tags if not tag.isascii())
    return {tag: composed for tag, composed in found if tag != composed}


def rank(counts: TagCounts, stop_tags: Collection[str], min_count: int) -> dict[str, pl.DataFrame]:
    """Sorts the tags of each kind that may enter a vocabulary, most frequent first.

    Tags of equal count are ordered code point by code point.

    Args:
        counts: of all captions.
        stop_tags: tags to leave out.
        min_count: leave out tags of fewer captions.

    Returns:
        kind -> columns `tag` (string), `count` (int64).

    Raises:
        UserError: no tag is left.
    """
    allowed = (pl.col("count") >= min_count) & ~pl.col("tag").is_in(list(stop_tags))
    ranked = counts.tags.filter(allowed).sort(["count", "tag"], descending=[True, False])
    if ranked.is_empty():
        why = f" with {min_count} captions or more" if min_count > 1 else ""
        raise UserError(
            f"no tag{why} in {counts.captions} captions: there is nothing to label with"
        )
    return {kind: ranked.filter(kind=kind).select("tag", "count") for kind in KINDS}


def choose(
    ranked: Mapping[str, pl.DataFrame], sizes: Mapping[str, int], captions: int
) -> Vocabulary:
    """The most frequent tags of each kind: objects first, then attributes, each by falling count.

    Args:
        ranked: kind -> columns `tag`, `count`, see `rank`.
        sizes: kind -> the largest number of tags, the paper's K.
        captions: number of captions, the denominator of the frequencies.
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
    """The tags of a list that occur, in the order of the list, once for every kind they occur as.

    Args:
        ranked: kind -> columns `tag`, `count`, see `rank`.
        wanted: the list.
        kinds: the kinds to look among.
        captions: number of captions, the denominator of the frequencies.
    """
    tags, found_kinds, counts = [], [], []
    for kind in kinds:
        found = pl.DataFrame({"tag": list(wanted)}, schema={"tag": pl.String}).join(
            ranked[kind], on="tag", how="inner", maintain_order="left"
        )
        tags += found["tag"].to_list()
        found_kinds += [kind] * len(found)
        counts.append(found["count"].to_numpy())
    return Vocabulary(tags, found_kinds, np.concatenate(counts), captions)
