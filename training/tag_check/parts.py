"""The measurements of a chunk of pictures, as one file of arrays.

A chunk is the unit of work and of commit: its file appears complete or not at all, and a check that was
killed measures only the chunks without a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from common.errors import UserError
from common.storage import Folder


@dataclass(frozen=True)
class Part:
    """The evidence of R rows of labels with E tags in all; NaN where something was not judged.

    Attributes:
        rows: rows of the label file, int64 of shape (R,).
        counts: number of tags of each row, int32 of shape (R,).
        tags: tag ids of all rows, int32 of shape (E,).
        places: number of the word with which the caption first says each tag, int16 of shape (E,);
            `UNSAID` where it lacks the tag's words.
        z: evidence of objects, float16 of shape (E,); NaN for attributes.
        null_tags, null_z: objects of another caption that this caption lacks, and their evidence, shapes
            (M,).
        pair_attribute, pair_object: for each attribute that its caption binds to an object, the positions
            of both among the E tags, int32 of shape (P,).
        pair_d: evidence of these pairs, float16 of shape (P,).
        null_attributes, null_d: other attributes with the same objects, and their evidence, shapes (Q,).
        images: number of pictures, shape (1,).
        broken: number of pictures that could not be decoded, shape (1,).
    """

    rows: np.ndarray
    counts: np.ndarray
    tags: np.ndarray
    places: np.ndarray
    z: np.ndarray
    null_tags: np.ndarray
    null_z: np.ndarray
    pair_attribute: np.ndarray
    pair_object: np.ndarray
    pair_d: np.ndarray
    null_attributes: np.ndarray
    null_d: np.ndarray
    images: np.ndarray
    broken: np.ndarray

    @classmethod
    def joined(cls, parts: list[Part]) -> Part:
        """One part with the rows of several, in their order."""
        columns = {}
        before = np.cumsum([0, *(len(part.tags) for part in parts)])
        for field in fields(cls):
            arrays = [getattr(part, field.name) for part in parts]
            if field.name in ("pair_attribute", "pair_object"):
                arrays = [one + start for one, start in zip(arrays, before, strict=False)]
            one = np.concatenate(arrays).astype(arrays[0].dtype)
            columns[field.name] = one
            if field.name in ("images", "broken"):
                columns[field.name] = one.sum(keepdims=True)
        return cls(**columns)


class Parts:
    """The parts of a check, in a folder."""

    def __init__(self, folder: Folder):
        self.folder = folder

    @staticmethod
    def name(chunk: int) -> str:
        return f"part-{chunk:06d}.safetensors"

    def has(self, chunk: int) -> bool:
        return self.folder.exists(self.name(chunk))

    def write(self, chunk: int, part: Part) -> None:
        """Raises `UserError` where there is no room."""
        arrays = {field.name: getattr(part, field.name) for field in fields(part)}
        self.folder.write(self.name(chunk), save(arrays))

    def read(self, chunk: int) -> Part:
        """Raises `UserError` for a damaged file."""
        try:
            return Part(**load(self.folder.read(self.name(chunk))))
        except (SafetensorError, TypeError, FileNotFoundError) as error:
            raise UserError(
                f"{self.folder.path(self.name(chunk))} is damaged: remove it and run the same command"
            ) from error

    def all(self, chunks: int) -> Iterator[Part]:
        """The parts of all chunks; one is in memory at a time."""
        for chunk in range(chunks):
            yield self.read(chunk)
