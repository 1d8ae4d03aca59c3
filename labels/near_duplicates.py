"""Finds tags of a vocabulary that may be one: plurals, spellings, one letter apart, close embeddings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import UserError, reason
from labels.spelling import singulars, spelling_key
from labels.vocabulary import KINDS, Vocabulary
from parsing.normalise import default

PLURAL, SPELLING, TYPO, MEANING = "plural", "spelling", "one letter", "meaning"
_TYPO_LETTERS = 6  # shorter words are too often one letter from another word
_TYPO_RATIO = 5  # a misspelling is rarer than the word by at least this factor
_EMBEDDED = 2_000  # tags of each kind that are compared by embedding
_MOST = 400  # pairs of each reason, those of the most captions

Embed = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class NearDuplicate:
    """Two tags of a kind that may be one.

    Attributes:
        reason: `PLURAL`, `SPELLING`, `TYPO` or `MEANING`.
        first, second: ids; the first is the more frequent one.
        similarity: cosine, for `MEANING`.
    """

    reason: str
    first: int
    second: int
    similarity: float | None = None


def near_duplicates(vocabulary: Vocabulary, embed: Embed | None = None) -> list[NearDuplicate]:
    """Pairs of tags that may be one, the most frequent first within each reason.

    Args:
        vocabulary: its tags.
        embed: n texts to unit vectors, float32 of shape (n, D); None leaves out `MEANING`.
    """
    found: dict[tuple[int, int], NearDuplicate] = {}
    for kind in KINDS:
        ids = vocabulary.ids(kind).tolist()
        for name, pairs in (
            (PLURAL, _plurals(vocabulary, ids)),
            (SPELLING, _same_key(vocabulary, ids)),
            (TYPO, _one_letter(vocabulary, ids)),
        ):
            for one, other in pairs:
                first, second = sorted((one, other), key=lambda i: (-vocabulary.counts[i], i))
                found.setdefault((first, second), NearDuplicate(name, first, second))
        if embed is not None:
            for first, second, cosine in _close(vocabulary, ids[:_EMBEDDED], embed):
                found.setdefault((first, second), NearDuplicate(MEANING, first, second, cosine))
    kept = []
    for name in (PLURAL, SPELLING, TYPO):
        pairs = [pair for pair in found.values() if pair.reason == name]
        kept += sorted(pairs, key=lambda pair: -int(vocabulary.counts[pair.second]))[:_MOST]
    meanings = [pair for pair in found.values() if pair.reason == MEANING]
    return kept + sorted(meanings, key=lambda pair: -pair.similarity)[:_MOST]


def _plurals(vocabulary: Vocabulary, ids: Sequence[int]) -> list[tuple[int, int]]:
    place = {vocabulary.tags[i]: i for i in ids}
    pairs = []
    for tag, number in place.items():
        singles = singulars(tag)
        if tag.endswith("s"):  # what the normalisation would make of it, where tags are not ours
            singles = [*singles, default().object(tag), tag.removesuffix("s")]
        pairs += [(place[s], number) for s in singles if s is not None and s != tag and s in place]
    return pairs


def _same_key(vocabulary: Vocabulary, ids: Sequence[int]) -> list[tuple[int, int]]:
    groups = defaultdict(list)
    for number in ids:
        groups[spelling_key(vocabulary.tags[number])].append(number)
    return [(group[0], other) for group in groups.values() for other in group[1:]]


def _one_letter(vocabulary: Vocabulary, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Tags with one letter more, less or swapped with the next, the first letter being the same."""
    place = {vocabulary.tags[i]: i for i in ids}
    pairs = []
    for tag, number in place.items():
        if len(tag) < _TYPO_LETTERS or " " in tag:
            continue
        near = {tag[:n] + tag[n + 1 :] for n in range(1, len(tag))}
        near |= {tag[:n] + tag[n + 1] + tag[n] + tag[n + 2 :] for n in range(1, len(tag) - 1)}
        for other in near - {tag, tag[:-1]}:  # a last letter is mostly an ending: flower, flowery
            if other in place and len(other) >= _TYPO_LETTERS:
                counts = vocabulary.counts[[number, place[other]]]
                if counts.max() >= _TYPO_RATIO * counts.min():
                    pairs.append((number, place[other]))
    return pairs


def _close(
    vocabulary: Vocabulary, ids: Sequence[int], embed: Embed
) -> list[tuple[int, int, float]]:
    """Tags that are each other's nearest by the cosine of their embeddings."""
    if len(ids) < 3:
        return []
    vectors = embed([vocabulary.tags[i] for i in ids])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.argmax(1)
    return [
        (ids[one], ids[other], float(cosines[one, other]))
        for one, other in enumerate(nearest.tolist())
        if one < other and nearest[other] == one
    ]


def load_text_encoder(name: str) -> Embed:
    """The text side of a CLIP.

    Args:
        name: a folder of an open_clip model, or `MODEL/WEIGHTS` by open_clip's names.

    Raises:
        UserError: there is no such model.
    """
    import os

    import open_clip
    import torch

    model_name, _, weights = name.partition("/")
    if os.path.isdir(name):
        model_name, weights = f"local-dir:{name}", ""
    try:
        model = open_clip.create_model(model_name, pretrained=weights or None).eval()
        tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as error:  # open_clip and the hub raise their own
        raise UserError(f"cannot load the text encoder {name}: {reason(error)}") from error

    @torch.no_grad()
    def embed(texts: list[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), 256):
            sentences = [f"a photo of a {text}" for text in texts[start : start + 256]]
            parts.append(model.encode_text(tokenizer(sentences), normalize=True).float())
        return torch.cat(parts).numpy()

    return embed
