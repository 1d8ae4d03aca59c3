"""The texts that pictures are compared with: the tags, and phrases of an attribute and its object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.storage import Folder
from labels.reader import Labels
from labels.vocabulary import ATTRIBUTE
from training.clip import Clip, tag_embeddings
from training.tag_check.binding import Mentions, bind
from training.tag_check.evidence import kinds

FEWEST = 5  # captions that a tag needs to be judged, and captions of the sample for a phrase

Pair = tuple[int, int]  # ids of an attribute and of its object


@dataclass(frozen=True)
class Texts:
    """T texts: the tags by their ids, then phrases.

    Attributes:
        embeddings: minus the mean of all tags, float32 of shape (T, D).
        tags: number of tags among the texts.
        judged: whether enough captions have a tag, bool of shape (tags,).
        phrases: (attribute, object) -> number of the text. Pairs are those that the sample's captions
            bind often enough, and the other attributes of the kind with the same object.
        kinds: attribute -> attributes that it is compared with.
    """

    embeddings: Tensor
    tags: int
    judged: np.ndarray
    phrases: dict[Pair, int]
    kinds: dict[int, list[int]]

    def rivals(self, pair: Pair) -> list[int]:
        """Texts of the same object with the other attributes of the kind; empty for an unknown pair."""
        attribute, thing = pair
        if pair not in self.phrases:
            return []
        others = (self.phrases.get((other, thing)) for other in self.kinds[attribute])
        return [text for text in others if text is not None]


def make_texts(clip: Clip, labels: Labels, sample_rows: np.ndarray, cache: Folder) -> Texts:
    """Embeds the tags and the phrases that the sample's captions bind.

    Args:
        clip: the frozen model.
        labels: the label file.
        sample_rows: rows of the label file that belong to the sampled pictures.
        cache: where embeddings are stored.

    Raises:
        UserError: the cache cannot be written to.
    """
    vocabulary = labels.vocabulary
    tags = tag_embeddings(clip, vocabulary.tags, cache)  # (tags, D)
    near = kinds(tags, vocabulary.ids(ATTRIBUTE).tolist())
    seen: Counter[Pair] = Counter()
    for start in range(0, len(sample_rows), 4096):
        rows = sample_rows[start : start + 4096]
        for row, caption in zip(rows, labels.captions(rows), strict=True):
            seen.update(bound_pairs(labels, Mentions(caption), labels.row(int(row))))
    wanted: dict[Pair, None] = {}
    for (attribute, thing), count in sorted(seen.items()):
        if count >= FEWEST:
            wanted |= dict.fromkeys((one, thing) for one in (attribute, *near[attribute]))
    names = [f"{vocabulary.tags[a]} {vocabulary.tags[o]}" for a, o in wanted]
    phrases = tag_embeddings(clip, names, cache)  # (phrases, D)
    embeddings = torch.cat([tags, phrases]) - tags.mean(0)  # (T, D)
    counts = np.bincount(labels.indices, minlength=len(vocabulary))
    texts = {pair: len(tags) + place for place, pair in enumerate(wanted)}
    return Texts(embeddings, len(tags), counts >= FEWEST, texts, near)


def bound_pairs(labels: Labels, mentions: Mentions, ids: Sequence[int]) -> list[Pair]:
    """The (attribute, object) ids that a caption binds, see `bind`."""
    names, of_kind = labels.vocabulary.tags, labels.vocabulary.kinds
    objects = {names[i]: int(i) for i in ids if of_kind[i] != ATTRIBUTE}
    attributes = {names[i]: int(i) for i in ids if of_kind[i] == ATTRIBUTE}
    if not attributes or not objects:
        return []
    bound = bind(mentions, objects, attributes)
    return [(attributes[a], objects[o]) for a, found in bound.items() for o in found]
