"""Tags that count as others: from a file, from the rules of `spelling.py`, or from WordNet.

Rules and WordNet group the tags that occur, and the most frequent tag of a group stands for it. So
neither adds a word that no caption has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

import polars as pl

from common.errors import UserError
from labels.spelling import singulars, spelling_key
from labels.tag_lists import read_synonyms
from labels.vocabulary import KINDS, OBJECT

RULES, WORDNET = "rules", "wordnet"


def written_synonyms(names: Iterable[str]) -> dict[str, str]:
    """The synonyms of the files among some names: tag -> tag to count it as.

    Raises:
        UserError: as `labels.tag_lists.read_synonyms`; or two files count a tag as different ones.
    """
    found: dict[str, str] = {}
    for name in names:
        if name in (RULES, WORDNET):
            continue
        for tag, target in read_synonyms(name).items():
            if found.setdefault(tag, target) != target:
                raise UserError(
                    f"{name} counts '{tag}' as '{target}', another file as '{found[tag]}'"
                )
    return found


def found_synonyms(
    names: Iterable[str], tags: pl.DataFrame, keep: Collection[str] = ()
) -> dict[str, str]:
    """The synonyms that rules and WordNet find among tags: tag -> tag to count it as.

    Args:
        names: `RULES`, `WORDNET` or both; others are ignored.
        tags: columns `kind`, `tag`, `count`.
        keep: tags of a vocabulary that is given: they stand for their groups and count as no other.

    Raises:
        UserError: WordNet or NLTK is not installed.
    """
    names = set(names)
    totals = tags.group_by("tag").agg(pl.col("count").sum())
    counts: dict[str, int] = dict(totals.select("tag", "count").iter_rows())
    groups = _Groups(counts, frozenset(keep))
    if RULES in names:
        groups.join_by(spelling_key)
        for tag in counts:
            for single in singulars(tag):
                if single in counts:
                    groups.join(tag, single)
    if WORDNET in names:
        groups.join_by(_first_synset(), _mostly_objects(tags))
    return groups.targets()


def effect(
    synonyms: Mapping[str, str],
    before: Mapping[str, pl.DataFrame],
    after: Mapping[str, pl.DataFrame],
    sizes: Mapping[str, int],
) -> str:
    """One line for the summary: how synonyms change the vocabulary.

    Args:
        synonyms: tag -> tag that it counts as.
        before, after: kind -> columns `tag`, `count`, most frequent first, without and with synonyms.
        sizes: kind -> K.
    """
    distinct, shares, entered = [], [], 0
    for ranked in (before, after):
        distinct.append(sum(len(table) for table in ranked.values()))
        kept = sum(int(ranked[kind].head(k)["count"].sum()) for kind, k in sizes.items())
        every = sum(int(ranked[kind]["count"].sum()) for kind in sizes)
        shares.append(f"{100 * kept / max(every, 1):.2f}%")
    for kind, k in sizes.items():
        entered += len(set(after[kind]["tag"].head(k)) - set(before[kind]["tag"].head(k)))
    return (
        f"synonyms        {len(synonyms):>14,}  tags count as another: {distinct[0]:,} distinct tags "
        f"become {distinct[1]:,}, {entered:,} others enter the vocabulary, which covers {shares[1]} of "
        f"all tags instead of {shares[0]}"
    )


class _Groups:
    """Groups of tags that are one; groups can be joined."""

    def __init__(self, counts: Mapping[str, int], keep: frozenset[str]):
        self._counts, self._keep = counts, keep
        self._parent: dict[str, str] = {}

    def _root(self, tag: str) -> str:
        while (parent := self._parent.get(tag, tag)) != tag:
            tag = parent
        return tag

    def join(self, one: str, other: str) -> None:
        """Joins the groups of two tags; the more frequent of their two heads stands for both."""
        roots = sorted({self._root(one), self._root(other)}, key=self._order)
        if len(roots) == 2:
            self._parent[roots[1]] = roots[0]

    def _order(self, tag: str) -> tuple[bool, int, str]:
        return (tag not in self._keep, -self._counts[tag], tag)

    def join_by(
        self, key: Callable[[str], Hashable | None], tags: Iterable[str] | None = None
    ) -> None:
        """Joins tags of equal keys; None is no key."""
        same: dict[Hashable, list[str]] = defaultdict(list)
        for tag in sorted(self._counts if tags is None else tags):
            if (value := key(tag)) is not None:
                same[value].append(tag)
        for first, *others in same.values():
            for other in others:
                self.join(first, other)

    def targets(self) -> dict[str, str]:
        """Tag -> the tag that stands for its group; the tags that stand for one are no keys."""
        return {tag: self._root(tag) for tag in sorted(self._parent) if tag not in self._keep}


def _mostly_objects(tags: pl.DataFrame) -> list[str]:
    """Tags that are objects at least as often as attributes; WordNet's nouns say nothing about others."""
    counts = {
        kind: dict(
            tags.filter(pl.col("kind").cast(pl.String) == kind).select("tag", "count").iter_rows()
        )
        for kind in KINDS
    }
    others = [kind for kind in KINDS if kind != OBJECT]
    return [
        tag for tag, count in counts[OBJECT].items()
        if all(count >= counts[kind].get(tag, 0) for kind in others)
    ]  # fmt: skip


def _first_synset() -> Callable[[str], str | None]:
    """The name of a tag's first noun synset, as CatLIP (Mehta et al., 2024) takes it.

    Raises:
        UserError: NLTK or its WordNet is not installed.
    """
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except ImportError as error:
        raise UserError("--synonyms wordnet needs nltk: pip install '.[baselines]'") from error
    except LookupError as error:
        raise UserError(
            "NLTK's WordNet is not installed: `python -m nltk.downloader wordnet` fetches it, and "
            "NLTK_DATA names the folder where it is kept"
        ) from error

    def first(tag: str) -> str | None:
        synsets = wordnet.synsets(tag.replace(" ", "_"), pos=wordnet.NOUN)
        return synsets[0].name() if synsets else None

    return first
