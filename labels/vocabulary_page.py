"""The page of a vocabulary: one HTML file to look through its tags, without anything from outside.

The template holds the style and the script; the data are JSON inside the page. The page stays below
`MOST_BYTES`: example captions, then pairs, then tags that were left out make room.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from labels.near_duplicates import NearDuplicate
from labels.vocabulary import KINDS, Vocabulary
from labels.vocabulary_examples import CAPTIONS, GOES_WITH, Examples

TEMPLATE = "vocabulary_page.html.jinja"
MOST_BYTES = 8_000_000
LEFT_OUT = 1_000  # tags after the last one of each kind


@dataclass(frozen=True)
class Amounts:
    """How much a page shows: captions and companions of a tag, and tags that were left out."""

    captions: int
    companions: int
    left_out: int


_AMOUNTS = (
    Amounts(CAPTIONS, GOES_WITH, LEFT_OUT),
    Amounts(6, GOES_WITH, LEFT_OUT),
    Amounts(3, 6, 500),
    Amounts(1, 3, 200),
    Amounts(0, 0, 100),
    Amounts(0, 0, 0),
)


def vocabulary_page(
    title: str,
    vocabulary: Vocabulary,
    ranked: Mapping[str, pl.DataFrame],
    examples: Examples,
    near: Sequence[NearDuplicate] = (),
    most_bytes: int = MOST_BYTES,
) -> bytes:
    """Draws the page.

    Args:
        title: of the page.
        vocabulary: its tags.
        ranked: kind -> columns `tag`, `count`, all tags, most frequent first.
        examples: of this vocabulary or a larger one.
        near: tags that may be one.
        most_bytes: the page has at most so many bytes, if its tags alone leave room for it.

    Returns:
        HTML in UTF-8.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    template = environment.get_template(TEMPLATE)
    page = b""
    for amounts in _AMOUNTS:
        data = page_data(vocabulary, ranked, examples, near, amounts)
        # `<` would end the script element in the middle of a caption.
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        text = text.encode("utf-8", "replace").decode()
        page = template.render(title=title, data=text).encode()
        if len(page) <= most_bytes:
            break
    return page


def page_data(
    vocabulary: Vocabulary,
    ranked: Mapping[str, pl.DataFrame],
    examples: Examples,
    near: Sequence[NearDuplicate],
    amounts: Amounts,
) -> dict[str, Any]:
    """What the page's script reads; kinds are 0 (object) and 1 (attribute), tags their ids."""
    names = list(zip(vocabulary.kinds, vocabulary.tags, strict=True))
    ids = {name: number for number, name in enumerate(names)}
    captions: dict[str, int] = {}
    shown, goes = {}, {}
    for name, number in ids.items():
        texts = examples.captions.get(name, ())[: amounts.captions]
        if texts:
            shown[number] = [
                [captions.setdefault(text, len(captions)), [at for place in places for at in place]]
                for text, places in texts
            ]
        other = KINDS[1 - KINDS.index(name[0])]
        companions = [
            [ids[other, tag], count, round(lift, 1)]
            for tag, count, lift in examples.goes_with.get(name, ())
            if (other, tag) in ids
        ]
        if companions and amounts.companions:
            goes[number] = companions[: amounts.companions]
    return {
        "captions": vocabulary.captions,
        "tags": list(vocabulary.tags),
        "kinds": [KINDS.index(kind) for kind in vocabulary.kinds],
        "counts": [int(count) for count in vocabulary.counts],
        "texts": list(captions),
        "shown": shown,
        "goes": goes,
        "near": [
            [pair.reason, pair.first, pair.second]
            + ([round(pair.similarity, 3)] if pair.similarity is not None else [])
            for pair in near
        ],
        "left": [_left_out(vocabulary, ranked, kind, amounts.left_out) for kind in KINDS],
    }


def _left_out(
    vocabulary: Vocabulary, ranked: Mapping[str, pl.DataFrame], kind: str, most: int
) -> dict[str, Any]:
    """The most frequent tags of a kind that are not in the vocabulary, and what they add up to."""
    table = ranked[kind]
    own = [vocabulary.tags[i] for i in vocabulary.ids(kind)]
    left = table.filter(~pl.col("tag").is_in(own))
    top = left.head(most)
    return {
        "tags": top["tag"].to_list(),
        "counts": top["count"].to_list(),
        "distinct": len(left),
        "mentions": int(left["count"].sum()),
        "all": int(table["count"].sum()),
    }
