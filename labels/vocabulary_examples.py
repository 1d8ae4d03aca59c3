"""What a vocabulary's page shows of the captions: real ones for each tag, and what goes with what.

Both are Polars queries over the tag shards. Example captions come from a sample of row groups spread
over the whole data, pairs from all of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import regex

from labels.counting import tags_of
from labels.images import batches_of
from labels.tag_folders import COLUMNS, RowGroup, TagFolder, scan
from labels.vocabulary import ATTRIBUTE, KINDS, OBJECT, Vocabulary
from parsing.normalise import default

TAGS, CAPTIONS = 2_000, 12  # tags with example captions, and captions of each
LONGEST = 240  # characters of an example
SAMPLE = 400_000  # captions that examples are taken from
LEAST = 3  # captions that a pair is in, where there are many captions
GOES_WITH = 10
PAIR_ROWS = 6_000_000  # captions of a query: a streaming group-by's memory grows with its rows
_MANY = 10_000
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’&-][\p{L}\p{M}\p{N}]+)*|<\s*\w+\s*>")

Tag = tuple[str, str]  # (kind, tag)


@dataclass
class Examples:
    """What the captions say of a vocabulary's tags.

    Attributes:
        captions: tag -> its example captions with the places of the tag in each: [start, end) in
            characters.
        goes_with: tag -> (tag of the other kind, captions with both, lift), highest lift first. The lift
            is how many times as often as by chance the two are together.
    """

    captions: dict[Tag, list[tuple[str, list[tuple[int, int]]]]] = field(default_factory=dict)
    goes_with: dict[Tag, list[tuple[str, int, float]]] = field(default_factory=dict)


def find_examples(
    folders: Sequence[TagFolder], vocabulary: Vocabulary, synonyms: Mapping[str, str]
) -> Examples:
    """Reads example captions and pairs of a vocabulary's tags.

    Args:
        folders: the captions.
        vocabulary: whose tags.
        synonyms: tag -> tag that it counts as.
    """
    return Examples(
        _captions(folders, vocabulary, synonyms), _goes_with(folders, vocabulary, synonyms)
    )


def _sample(folders: Iterable[TagFolder]) -> list[RowGroup]:
    """Row groups spread evenly over all folders, with about `SAMPLE` captions."""
    groups = [group for tags in folders for group in tags.row_groups]
    step = max(1, -(-sum(group.rows for group in groups) // SAMPLE))
    return groups[::step] if len(groups) >= step else groups[:1]


def _captions(
    folders: Sequence[TagFolder], vocabulary: Vocabulary, synonyms: Mapping[str, str]
) -> dict[Tag, list[tuple[str, list[tuple[int, int]]]]]:
    order = sorted(range(len(vocabulary)), key=lambda i: -int(vocabulary.counts[i]))[:TAGS]
    wanted = {kind: [vocabulary.tags[i] for i in order if vocabulary.kinds[i] == kind]
              for kind in KINDS}  # fmt: skip
    sources = defaultdict(list)
    for tag, target in synonyms.items():
        sources[target].append(tag)
    rows = scan(_sample(folders))
    found: dict[Tag, list[tuple[str, list[tuple[int, int]]]]] = {}
    for kind, tags in wanted.items():
        if not tags:
            continue
        query = (
            rows.select(
                pl.col("caption").cast(pl.String),
                tag=tags_of(kind, synonyms).list.unique(),
            )
            .filter(pl.col("caption") != "")
            .explode("tag", empty_as_null=False)
            .filter(pl.col("tag").is_in(tags))
            # The smallest hashes: captions from everywhere, and the same ones in every run.
            .with_columns(order=pl.col("caption").hash(seed=0))
            .unique(["tag", "order"])
            .group_by("tag")
            .agg(pl.col("caption").bottom_k_by("order", CAPTIONS))
        )
        for tag, captions in query.collect(engine="streaming").iter_rows():
            names = [tag, *sources[tag]]
            shown = sorted(captions, key=len)
            found[kind, tag] = [(c, marks(c, names)) for c in map(_shortened, shown)]
    return found


def _shortened(caption: str) -> str:
    caption = " ".join(caption.split())
    return caption if len(caption) <= LONGEST else caption[: LONGEST - 1].rstrip() + "…"


def marks(caption: str, tags: Sequence[str]) -> list[tuple[int, int]]:
    """Where a caption says a tag, in any form that is normalised to it: `Dogs` for `dog`.

    Args:
        caption: as it was written.
        tags: the tag, and others that count as it.

    Returns:
        [start, end) of each place in characters, in their order; none where the words of the tag are
        apart or another word was joined with it.
    """
    words = list(_WORD.finditer(caption))
    wanted = {tag.lower() for tag in tags}
    lengths = sorted({len(tag.split()) for tag in wanted}, reverse=True)
    initials = {tag[:1] for tag in wanted} | {"<"}
    places, at = [], 0
    while at < len(words):
        first = words[at]
        found = None
        if first[0][0].lower() in initials:
            for length in lengths:
                last = words[min(at + length, len(words)) - 1]
                text = caption[first.start() : last.end()]
                if at + length <= len(words) and _says(text, wanted):
                    found = length
                    break
        if found:
            places.append((first.start(), words[at + found - 1].end()))
        at += found or 1
    if not places and not caption.isascii():  # scripts without spaces
        places = [(m.start(), m.end()) for tag in wanted for m in
                  regex.finditer(regex.escape(tag), caption.lower())][:3]  # fmt: skip
    return places


def _says(text: str, wanted: set[str]) -> bool:
    text = " ".join(text.lower().split())
    return text in wanted or default().object(text) in wanted or default().attribute(text) in wanted


def _goes_with(
    folders: Sequence[TagFolder], vocabulary: Vocabulary, synonyms: Mapping[str, str]
) -> dict[Tag, list[tuple[str, int, float]]]:
    counts = {
        kind: {vocabulary.tags[i]: int(vocabulary.counts[i]) for i in vocabulary.ids(kind)}
        for kind in KINDS
    }
    if not counts[OBJECT] or not counts[ATTRIBUTE]:
        return {}
    pairs = pl.col(COLUMNS[ATTRIBUTE]).list.eval(
        pl.struct(
            a=_joined(pl.element().struct.field("attribute"), synonyms),
            o=_joined(pl.element().struct.field("object"), synonyms),
        )
    )
    least = LEAST if vocabulary.captions >= _MANY else 1
    table = pl.DataFrame(schema={"a": pl.String, "o": pl.String, "n": pl.Int64})
    batches = [batch for tags in folders for batch in batches_of(tags, PAIR_ROWS)]
    for batch in batches:
        query = (
            scan(batch.row_groups)
            .select(pair=pairs.list.unique())
            .explode("pair", empty_as_null=False)
            .select(
                a=pl.col("pair").struct.field("a"),
                o=pl.col("pair").struct.field("o"),
            )
            .filter(
                pl.col("a").is_in(list(counts[ATTRIBUTE])), pl.col("o").is_in(list(counts[OBJECT]))
            )
            .group_by("a", "o")
            .agg(n=pl.len().cast(pl.Int64))
        )
        found_here = query.collect(engine="streaming")
        table = pl.concat([table, found_here]).group_by("a", "o").agg(pl.col("n").sum())
    table = table.filter(pl.col("n") >= least)
    totals = {
        kind: pl.DataFrame(
            {name: list(counts[kind]), f"n_{name}": list(counts[kind].values())},
            schema={name: pl.String, f"n_{name}": pl.Int64},
        )
        for kind, name in ((ATTRIBUTE, "a"), (OBJECT, "o"))
    }
    table = table.join(totals[ATTRIBUTE], on="a").join(totals[OBJECT], on="o")
    lift = pl.col("n") * float(vocabulary.captions) / (pl.col("n_a") * pl.col("n_o"))
    table = table.with_columns(lift=lift).sort(
        ["lift", "n", "a", "o"], descending=[True, True, False, False]
    )
    found: dict[Tag, list[tuple[str, int, float]]] = defaultdict(list)
    for kind, own, other in ((OBJECT, "o", "a"), (ATTRIBUTE, "a", "o")):
        top = table.group_by(own, maintain_order=True).head(GOES_WITH)
        for tag, with_tag, n, value in top.select(own, other, "n", "lift").iter_rows():
            found[kind, tag].append((with_tag, n, value))
    return dict(found)


def _joined(tags: pl.Expr, synonyms: Mapping[str, str]) -> pl.Expr:
    return tags.replace(list(synonyms), list(synonyms.values())) if synonyms else tags
