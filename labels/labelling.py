"""From the tags of captions to rows of tag ids, and from a large vocabulary's ids to a smaller one's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from labels.counting import tags_of
from labels.runs import Piece, scan
from labels.vocabulary import KINDS, Vocabulary

LABELLED = {"caption_id": pl.Int64, "caption": pl.String, "tag_ids": pl.List(pl.Int32)}


def ids_by_tag(vocabulary: Vocabulary, synonyms: Mapping[str, str]) -> dict[str, pl.DataFrame]:
    """What each tag, as the parser wrote it, counts as.

    Returns:
        kind -> columns `tag` (string, unique) and `tag_id` (int32); kinds without tags are left out.
    """
    found = {}
    for kind in KINDS:
        own = {vocabulary.tags[i]: int(i) for i in vocabulary.ids(kind)}
        ids = {tag: i for tag, i in own.items() if tag not in synonyms}
        ids |= {tag: own[target] for tag, target in synonyms.items() if target in own}
        if ids:
            columns = {"tag": list(ids), "tag_id": list(ids.values())}
            found[kind] = pl.DataFrame(columns, schema={"tag": pl.String, "tag_id": pl.Int32})
    return found


def label_pieces(pieces: Iterable[Piece], ids: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Labels captions in one streaming query.

    Args:
        pieces: the captions, in order.
        ids: of `ids_by_tag`.

    Returns:
        Columns of `LABELLED`, rows in the order of the pieces; `tag_ids` ascending, each once.
    """
    lists = [
        tags_of(kind, {}).list.eval(
            pl.element().replace_strict(
                table["tag"], table["tag_id"], default=None, return_dtype=pl.Int32
            )
        )
        for kind, table in ids.items()
    ]
    empty = pl.lit([], dtype=LABELLED["tag_ids"])
    merged = pl.concat_list([tags.fill_null(empty) for tags in lists]) if lists else empty
    query = scan(pieces).select(
        pl.col("caption_id").cast(pl.Int64),
        pl.col("caption").cast(pl.String).fill_null(""),
        tag_ids=merged.list.drop_nulls().list.unique().list.sort(),
    )
    return query.collect(engine="streaming")


def narrowing(wide: Vocabulary, narrow: Vocabulary) -> np.ndarray:
    """int32 of shape (len(wide),): the id in `narrow` of each tag of `wide`, -1 where it has none."""
    ids = {tag: i for i, tag in enumerate(zip(narrow.kinds, narrow.tags, strict=True))}
    tags = zip(wide.kinds, wide.tags, strict=True)
    return np.fromiter((ids.get(tag, -1) for tag in tags), dtype=np.int32, count=len(wide))


def narrow_lists(lists: pa.ListArray, to: np.ndarray) -> pa.ListArray:
    """Rewrites rows of ids of a large vocabulary as rows of a smaller one's, which keeps its order.

    Args:
        lists: ids of the large vocabulary, ascending in each row.
        to: of `narrowing`.
    """
    ids = to[lists.flatten().to_numpy()]
    kept = ids >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    offsets = lists.offsets.to_numpy()
    offsets = before[offsets - offsets[0]].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids[kept]))
