"""Measures the evidence of the tags of some pictures: `evidence.py` over batches of them.

Each caption's objects are measured in its picture. So are the objects of another caption of the batch that
this caption lacks: their values are the null, the evidence of tags where no caption names them. In the same
way each attribute that a caption binds to an object is measured, and as its null another attribute of its
kind with the same object.
"""

from __future__ import annotations

import random
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labels.reader import Labels
from labels.vocabulary import ATTRIBUTE
from training.clip import Clip
from training.model import mean_and_std, normalise
from training.settings import CLIP_OWN
from training.surgery import ImagePath, Tokens, image_tokens, plain_features
from training.tag_check.binding import Mentions
from training.tag_check.caption_chain import UNSAID
from training.tag_check.evidence import Statistics, evidence, leverages
from training.tag_check.parts import Part
from training.tag_check.texts import Texts, bound_pairs


class Looker:
    """Encodes pictures and measures tags in them.

    Args:
        clip: the frozen model.
        path: how its patches are read.
        precision: whether the encoder computes in bfloat16; everything else is float32.
        normalisation: of pixels, see `mean_and_std`.
    """

    def __init__(self, clip: Clip, path: ImagePath, precision: bool, normalisation: str = CLIP_OWN):
        self.clip, self.path, self.bf16 = clip, path, precision
        self.colours = mean_and_std(clip, normalisation)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tokens]:
        """Class tokens (B, D) and patches (B, N, D), float32 of unit length, and the tokens they are made of."""
        device = self.clip.device
        images = normalise(pixels.to(device), *self.colours)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            tokens = image_tokens(self.clip.visual, images, self.path)
        visual = self.clip.visual
        classes = F.normalize(plain_features(visual, tokens.class_token.float()), dim=-1)
        patches = F.normalize(plain_features(visual, tokens.patches.float()), dim=-1)
        return classes, patches, tokens


class Measure:
    """Measures the tags of rows of labels.

    Args:
        labels, texts, statistics: see their modules.
        kind, how: see `evidence`.
        seed: decides which other caption's tags are the null.
    """

    def __init__(
        self,
        labels: Labels,
        texts: Texts,
        statistics: Statistics,
        device: torch.device,
        kind: str,
        how: str,
        seed: int,
    ):
        self.labels, self.texts, self.seed = labels, texts, seed
        self.statistics = statistics.to(device)
        self.embeddings = texts.embeddings.to(device)
        kinds = np.asarray(labels.vocabulary.kinds, dtype=object)
        self.asked = texts.judged & (kinds != ATTRIBUTE)  # objects with enough captions, (tags,)
        self.kind, self.how, self.device = kind, how, device

    @torch.no_grad()
    def __call__(
        self,
        images: np.ndarray,
        classes: Tensor,
        patches: Tensor,
        which: np.ndarray,
        rows: np.ndarray,
    ) -> Part:
        """Measures a batch.

        Args:
            images: rows of the index, shape (B,).
            classes, patches: of these images, see `Looker.encode`.
            which: position among `images` of each row's picture, int64 of shape (R,).
            rows: rows of the label file, shape (R,).
        """
        indptr, tags = self.labels.rows(rows)
        captions = self.labels.captions(rows)
        rng = random.Random(f"{self.seed} {rows[0] if len(rows) else 0} {len(rows)}")
        plan = _Plan(self, rows, indptr, tags, captions, rng)
        columns, own = plan.padded()
        leverage = leverages(self.statistics, classes, images)
        if not np.array_equal(which, np.arange(len(images))):  # else no patch needs to be copied
            where = torch.from_numpy(which).to(self.device)
            classes, patches, leverage = classes[where], patches[where], leverage[where]
        z = evidence(
            self.statistics, self.embeddings, classes, patches,
            columns.to(self.device), own.to(self.device), leverage, self.kind, self.how,
        )  # fmt: skip
        return plan.part(z.cpu().numpy(), len(images))


class _Plan:
    """Which texts each row of labels is compared with, and what their evidence is used for."""

    def __init__(self, measure: Measure, rows, indptr, tags, captions, rng: random.Random):
        self.rows, self.indptr, self.tags = rows, indptr, tags
        self.lists: list[list[int]] = []  # texts of each row
        self.objects: list[tuple[int, int, int]] = []  # (row, place among its texts, entry)
        self.nulls: list[tuple[int, int, int]] = []  # (row, place, tag)
        self.pairs: list[tuple[int, int, list[int], int, int]] = []  # row, text, rivals, entries
        self.null_pairs: list[tuple[int, int, list[int], int]] = []  # row, text, rivals, attribute
        self.places: list[int] = []  # of each entry in its caption
        texts, labels = measure.texts, measure.labels
        names = labels.vocabulary.tags
        step = rng.randrange(1, max(len(rows), 2))
        asked = measure.asked[tags].tolist()
        ids_of = [tags[a:b].tolist() for a, b in pairwise(indptr.tolist())]
        for row, (start, ids, caption) in enumerate(zip(indptr, ids_of, captions, strict=False)):
            wanted: dict[int, int] = {}  # text -> place
            other = (row + step) % len(rows)
            entry = {tag: int(start) + offset for offset, tag in enumerate(ids)}
            for tag, at in entry.items():
                if asked[at]:
                    wanted[tag] = len(wanted)
                    self.objects.append((row, wanted[tag], at))
            for at, tag in enumerate(ids_of[other], start=int(indptr[other])):
                if asked[at] and tag not in entry:
                    self.nulls.append((row, wanted.setdefault(tag, len(wanted)), tag))
            mentions = Mentions(caption)
            for tag in ids:
                found = mentions.places(names[tag])
                self.places.append(min(found[0][0], UNSAID) if found else UNSAID)
            for pair in bound_pairs(labels, mentions, ids):
                self._add_pair(texts, row, pair, entry, wanted, rng)
            self.lists.append(list(wanted))

    def _add_pair(self, texts: Texts, row, pair, entry, wanted, rng) -> None:
        rivals = texts.rivals(pair)
        text = texts.phrases.get(pair, -1) if rivals and texts.judged[pair[0]] else -1
        everything = [text, *rivals] if text >= 0 else []
        places = [wanted.setdefault(one, len(wanted)) for one in everything]
        self.pairs.append(
            (row, places[0] if places else -1, places[1:], entry[pair[0]], entry[pair[1]])
        )
        if not places:
            return
        others = [
            (other, texts.phrases[(other, pair[1])])
            for other in texts.kinds[pair[0]]
            if other not in entry and (other, pair[1]) in texts.phrases
        ]
        if others:
            attribute, null = rng.choice(others)
            rest = [wanted[one] for one in everything if one != null]
            self.null_pairs.append((row, wanted[null], rest, attribute))

    def padded(self) -> tuple[Tensor, Tensor]:
        """Texts of each row, and whether they are its own, of shape (R, k); padded with text 0."""
        lengths = np.array([len(one) for one in self.lists], np.int64)
        shape = len(self.lists), int(lengths.max(initial=0))
        columns, own = np.zeros(shape, np.int64), np.zeros(shape, bool)
        columns[np.arange(shape[1]) < lengths[:, None]] = list(chain.from_iterable(self.lists))
        row, place, _ = _columns(self.objects, 3)
        own[row, place] = True
        return torch.from_numpy(columns), torch.from_numpy(own)

    def part(self, z: np.ndarray, images: int) -> Part:
        """The evidence of the rows, from z of shape (R, k)."""
        own = np.full(len(self.tags), np.nan, np.float16)
        row, place, entry = _columns(self.objects, 3)
        own[entry] = z[row, place]
        null_row, null_place, null_tags = _columns(self.nulls, 3)
        pair_d = [
            z[row, place] - z[row, rivals].mean() if place >= 0 else np.nan
            for row, place, rivals, _, _ in self.pairs
        ]
        return Part(
            np.asarray(self.rows, np.int64),
            np.diff(self.indptr).astype(np.int32),
            np.asarray(self.tags, np.int32),
            np.array(self.places, np.int16),
            own,
            null_tags.astype(np.int32),
            z[null_row, null_place].astype(np.float16),
            np.array([one[3] for one in self.pairs], np.int32),
            np.array([one[4] for one in self.pairs], np.int32),
            np.array(pair_d, np.float16),
            np.array([one[3] for one in self.null_pairs], np.int32),
            np.array([z[row, at] - z[row, rest].mean() for row, at, rest, _ in self.null_pairs],
                     np.float16),
            np.array([images], np.int64),
            np.array([0], np.int64),
        )  # fmt: skip


def _columns(rows: list[tuple[int, ...]], width: int) -> np.ndarray:
    """Tuples as columns, int64 of shape (width, n)."""
    return np.array(rows, np.int64).reshape(-1, width).T


def not_judged(labels: Labels, rows: np.ndarray, images: int, broken: int) -> Part:
    """The part of rows whose pictures could not be decoded."""
    indptr, tags = labels.rows(rows)
    nothing = np.zeros(0, np.int32)
    half = nothing.astype(np.float16)
    return Part(
        np.asarray(rows, np.int64),
        np.diff(indptr).astype(np.int32),
        tags.astype(np.int32),
        np.full(len(tags), UNSAID, np.int16),
        np.full(len(tags), np.nan, np.float16),
        nothing, half, nothing, nothing, half, nothing, half,
        np.array([images], np.int64),
        np.array([broken], np.int64),
    )  # fmt: skip
