"""Turns measurements into scores, and writes the label file of the tags that stay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap

from common.errors import UserError, reason
from common.storage import Folder
from labels.label_file import SCORED_LABELS, LabelWriter, read_made_from, vocabulary_path
from labels.reader import Labels
from labels.vocabulary import Vocabulary, vocabulary_text
from training.tag_check.caption_chain import CaptionChain, Steps
from training.tag_check.decision import Histograms, Mixture, fit
from training.tag_check.parts import Part, Parts
from training.tag_check.settings import Keep

_ROWS = 65_536
_CHAINED = 200_000  # captions that teach the chain
_ONE = int(np.float16(1).view(np.uint16))  # bits of the best score


@dataclass(frozen=True)
class Counts:
    """The result of a check in numbers.

    Attributes:
        kept, dropped, unjudged: numbers of labels; the unjudged are among the kept.
        threshold: smallest score of a judged tag that stays.
        empty: rows that had tags and have none now.
        images, broken: numbers of pictures, and of those that could not be decoded.
        by_tag: for each tag of the old vocabulary its kept labels and all, int64 of shape (T, 2).
    """

    kept: int
    dropped: int
    unjudged: int
    threshold: float
    empty: int
    images: int
    broken: int
    by_tag: np.ndarray


@dataclass(frozen=True)
class Model:
    """Turns evidence into scores of objects and of attributes.

    Attributes:
        objects, attributes: the fitted models of single tags.
        chain: what the objects of one caption say of each other.
        histograms: of the objects.
    """

    objects: Mixture
    attributes: Mixture
    chain: CaptionChain
    histograms: Histograms

    @classmethod
    def of(cls, parts: Parts, chunks: int, tags: int) -> tuple[Model, int, int]:
        """The model of all parts, the number of their pictures, and of those that could not be decoded.

        Args:
            parts, chunks: the parts and their number. They are read twice, as objects are fitted before
                attributes; at most `_CHAINED` captions teach the chain.
            tags: size T of the vocabulary.
        """
        histograms, attributes = Histograms(tags), Histograms(tags)
        images = broken = rows = 0
        for part in parts.all(chunks):
            images, broken = images + int(part.images[0]), broken + int(part.broken[0])
            rows += len(part.rows)
            histograms.add(histograms.own, part.tags, part.z)
            histograms.add(histograms.null, part.null_tags, part.null_z)
        objects = fit(histograms)
        every = max(-(-rows // _CHAINED), 1)
        taught = (parts.read(chunk) for chunk in range(0, chunks, every))
        chain = CaptionChain.learn([_steps(objects, part) for part in taught], objects.share)
        found = cls(objects, objects, chain, histograms)
        for part in parts.all(chunks):
            shown = found.of_objects(part)[part.pair_object]
            said = part.tags[part.pair_attribute]
            attributes.add(attributes.own, said, part.pair_d, shown)
            attributes.add(attributes.null, part.null_attributes, part.null_d)
        return replace(found, attributes=fit(attributes)), images, broken

    def of_objects(self, part: Part) -> np.ndarray:
        """P(shown) of each object of a part, float32 of shape (E,); NaN for others, and where not judged."""
        scores = np.full(len(part.tags), np.nan, np.float32)
        steps = _steps(self.objects, part)
        scores[steps.entries] = self.chain.probabilities(steps)
        return scores

    def scores(self, part: Part) -> np.ndarray:
        """The score of each tag of a part, float32 of shape (E,); NaN where it was not judged.

        An attribute's score is P(object shown) P(attribute | object), the best one of its objects. Where only
        one of the two factors is known, it is the score.
        """
        scores = self.of_objects(part)
        of_object = scores[part.pair_object]
        said = part.tags[part.pair_attribute]
        of_attribute = self.attributes.probabilities(said, part.pair_d)
        both = np.where(np.isnan(of_object), 1, of_object) * np.where(
            np.isnan(of_attribute), 1, of_attribute
        )
        both[np.isnan(of_object) & np.isnan(of_attribute)] = np.nan
        with np.errstate(invalid="ignore"):
            np.fmax.at(scores, part.pair_attribute, both)
        return scores


def _steps(objects: Mixture, part: Part) -> Steps:
    return Steps.of(objects, part.tags, part.z, part.places, part.counts)


def score_all(
    labels: Labels, parts: Parts, chunks: int, model: Model, folder: Folder
) -> np.ndarray:
    """The scores of all tags of a label file, in its order: float16, memory-mapped in `folder`.

    Tags of rows without a picture are NaN.
    """
    path = folder.path("scores.npy")
    with folder.write_errors():
        scores = open_memmap(path, mode="w+", dtype=np.float16, shape=(len(labels.indices),))
    for start in range(0, len(scores), 1 << 22):
        scores[start : start + (1 << 22)] = np.nan
    for part in parts.all(chunks):
        found = model.scores(part)
        starts = labels.indptr[part.rows].astype(np.int64)
        ends = np.cumsum(part.counts) - part.counts
        scores[np.repeat(starts - ends, part.counts) + np.arange(len(found))] = found
    return scores


def threshold_of(scores: np.ndarray, keep: Keep) -> float:
    """The smallest score that stays."""
    if keep.threshold is not None:
        return keep.threshold
    # The bits of half-precision numbers that are not negative rise with them: all values are counted.
    counts = np.zeros(_ONE + 1, np.int64)
    for start in range(0, len(scores), 1 << 22):
        part = np.asarray(scores[start : start + (1 << 22)])
        judged = part[~np.isnan(part)]
        counts += np.bincount(judged.view(np.uint16), minlength=_ONE + 1)
    best = np.cumsum(counts[::-1])  # those of the best scores first
    place = int(np.searchsorted(best, keep.share * counts.sum()))
    return float(np.uint16(max(_ONE - place, 0)).view(np.float16))


def write_checked(
    labels: Labels,
    scores: np.ndarray,
    threshold: float,
    out: str,
    about: dict[str, Any],
    seen: tuple[int, int] = (0, 0),
) -> Counts:
    """Writes the label file, and its vocabulary beside it.

    Tags without a kept label leave the vocabulary; the counts of the others shrink by the dropped share of
    their labels.

    Args:
        labels: the file that was checked.
        scores: of all its tags, NaN for a tag that was not judged.
        threshold: smallest score of a judged tag that stays.
        out: the file.
        about: how the tags were checked, for the footer.
        seen: numbers of pictures, and of those that could not be decoded.

    Raises:
        UserError: no tag stays, or there is no room.
    """
    by_tag = np.zeros((labels.num_tags, 2), np.int64)
    unjudged = empty = 0
    for start, stop in _spans(len(labels)):
        ids, part = _slice(labels, scores, start, stop)
        stays = _stays(part, threshold)
        by_tag[:, 1] += np.bincount(ids, minlength=len(by_tag))
        by_tag[:, 0] += np.bincount(ids[stays], minlength=len(by_tag))
        unjudged += int(np.isnan(part).sum())
        indptr = labels.indptr[start : stop + 1].astype(np.int64) - int(labels.indptr[start])
        left = np.diff(np.concatenate([[0], np.cumsum(stays)])[indptr])
        empty += int(((left == 0) & (np.diff(indptr) > 0)).sum())
    if not by_tag[:, 0].any():
        raise UserError(f"no tag has a score of {threshold:.3g} or more: choose another --keep")
    vocabulary, new_id = _narrowed(labels.vocabulary, by_tag)
    beside = vocabulary_path(out)
    folder = Folder(Path(out).parent)
    folder.make()
    with LabelWriter(out, vocabulary, about, read_made_from(labels.path)) as writer:
        at = 0
        for table in _tables(labels):
            writer.write(_checked_table(labels, scores, threshold, new_id, at, table))
            at += len(table)
        writer.finish()
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()  # of an earlier check: the file would be older than its vocabulary
    folder.write_table(beside.name, vocabulary.table())
    folder.write(beside.name.replace(".parquet", ".txt"), vocabulary_text(vocabulary).encode())
    kept, every = by_tag.sum(0).tolist()
    return Counts(kept, every - kept, unjudged, threshold, empty, *seen, by_tag)


def _checked_table(
    labels: Labels,
    scores: np.ndarray,
    threshold: float,
    new_id: np.ndarray,
    at: int,
    table: pa.Table,
) -> pa.Table:
    """Rows [at, at + len(table)) of the new file: only kept tags, with new ids, ascending."""
    ids, part = _slice(labels, scores, at, at + len(table))
    counts = np.diff(labels.indptr[at : at + len(table) + 1].astype(np.int64))
    row = np.repeat(np.arange(len(table)), counts)
    stays = _stays(part, threshold)
    row, ids, part = row[stays], new_id[ids[stays]], part[stays]
    order = np.lexsort((ids, row))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(table)))])
    offsets = pa.array(offsets.astype(np.int32))
    values = pa.array(part[order], pa.float16(), mask=np.isnan(part[order]))
    lists = [
        pa.ListArray.from_arrays(offsets, one, type=SCORED_LABELS.field(name).type)
        for name, one in (("tag_ids", pa.array(ids[order].astype(np.int32))), ("scores", values))
    ]
    columns = [table["key"].combine_chunks(), table["caption"].combine_chunks(), *lists]
    return pa.Table.from_arrays(columns, schema=SCORED_LABELS)


def _narrowed(vocabulary: Vocabulary, by_tag: np.ndarray) -> tuple[Vocabulary, np.ndarray]:
    """The vocabulary of the tags that are left, and the new id of each old tag, -1 if it is gone.

    Where no label is dropped, the vocabulary stays as it is, with the tags that no image has.
    """
    kept, every = by_tag.T
    if (kept == every).all():
        return vocabulary, np.arange(len(vocabulary))
    old = np.asarray(vocabulary.counts, np.int64)
    counts = np.where(every > 0, np.rint(old * kept / np.maximum(every, 1)), old).astype(np.int64)
    counts = np.maximum(counts, 1)
    left = np.flatnonzero(kept > 0)
    # As labels/README.md orders them: by kind, then falling count, then code points.
    kind_of = {kind: place for place, kind in enumerate(dict.fromkeys(vocabulary.kinds))}
    left = sorted(
        left.tolist(),
        key=lambda i: (kind_of[vocabulary.kinds[i]], -counts[i], vocabulary.tags[i]),
    )
    new_id = np.full(len(vocabulary), -1, np.int64)
    new_id[left] = np.arange(len(left))
    tags = [vocabulary.tags[i] for i in left]
    kinds = [vocabulary.kinds[i] for i in left]
    return Vocabulary(tags, kinds, counts[left], vocabulary.captions), new_id


def _stays(scores: np.ndarray, threshold: float) -> np.ndarray:
    return np.isnan(scores) | (scores >= np.float32(threshold))


def _slice(
    labels: Labels, scores: np.ndarray, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    span = slice(int(labels.indptr[start]), int(labels.indptr[stop]))
    return labels.indices[span], scores[span]


def _spans(rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, _ROWS):
        yield start, min(start + _ROWS, rows)


def _tables(labels: Labels) -> Iterator[pa.Table]:
    """Keys and captions, some rows at a time."""
    try:
        with pq.ParquetFile(labels.path) as file:
            for batch in file.iter_batches(_ROWS, columns=["key", "caption"]):
                yield pa.Table.from_batches([batch]).cast(
                    pa.schema([SCORED_LABELS.field(name) for name in ("key", "caption")])
                )
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {labels.path}: {reason(error)}") from error
