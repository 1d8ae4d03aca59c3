"""Finds keys of images that stand for several captions, once all images are written.

Hashes of keys and captions are kept in a file, 16 bytes an image, which is searched in parts, so that
memory does not grow with the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from common.storage import Folder

_RECORD = np.dtype([("key", np.uint64), ("caption", np.uint64)])
_IS_URL = np.uint64(1)  # the lowest bit of a caption's hash says instead whether its key is a URL
_AT_ONCE = 4_000_000  # records of a part
_BLOCK = 500_000  # records that are read at once


@dataclass(frozen=True)
class Repeated:
    """Keys with more than one caption.

    Attributes:
        count: number of such keys.
        example: position of an image with such a key.
        across: positions of two images of different folders that share a key which is not a URL; None
            if there are none.
    """

    count: int
    example: int
    across: tuple[int, int] | None


class Keys:
    """The keys of all images in the order of their rows.

    Args:
        folder: where the file of hashes is written; the caller deletes it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "keys.bin"
        self._folder = Folder(folder)
        self._images = 0
        self._starts: list[int] = []
        self._names: list[str] = []

    def begin_folder(self, name: str) -> None:
        """Begins the images of another tag folder."""
        self._starts.append(self._images)
        self._names.append(name)

    def add(self, images: pl.DataFrame) -> None:
        """Notes images, columns `key` and `caption`.

        Raises:
            UserError: no room on the disk.
        """
        records = np.empty(len(images), dtype=_RECORD)
        records["key"] = images["key"].hash().to_numpy()
        urls = images["key"].str.contains("://", literal=True).to_numpy().astype(np.uint64)
        captions = images["caption"].hash().to_numpy()
        records["caption"] = (captions & ~_IS_URL) | urls
        with self._folder.write_errors(), open(self._path, "ab") as file:
            records.tofile(file)
        self._images += len(images)

    def folder_of(self, position: int) -> str:
        """Name of the tag folder that an image comes from."""
        return self._names[int(np.searchsorted(self._starts, position, side="right")) - 1]

    def repeated(self) -> Repeated | None:
        """The keys that stand for several captions; None if there are none."""
        if not self._images:
            return None
        parts = -(-self._images // _AT_ONCE)
        found = [self._of_part(part, parts) for part in range(parts)]
        count = sum(len(table) for table in found)
        if not count:
            return None
        table = pl.concat(found).sort("first")
        across = table.filter(pl.col("across") & ~pl.col("is_url"))
        pair = across.row(0, named=True) if len(across) else None
        return Repeated(count, table["first"][0], pair and (pair["first"], pair["other"]))

    def _of_part(self, part: int, parts: int) -> pl.DataFrame:
        """Repeated keys among those whose hash modulo `parts` is `part`."""
        records, positions = self._read(part, parts)
        ordered = np.sort(records["key"])
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        repeated = np.isin(records["key"], twice)
        records, positions = records[repeated], positions[repeated]
        rows = pl.DataFrame(
            {
                "key": records["key"],
                "caption": records["caption"],
                "is_url": (records["caption"] & _IS_URL).astype(bool),
                "folder": np.searchsorted(self._starts, positions, side="right"),
                "position": positions,
            }
        )
        other = pl.col("position").filter(
            (pl.col("folder") != pl.col("folder").first())
            & (pl.col("caption") != pl.col("caption").first())
        )
        groups = rows.group_by("key", maintain_order=True).agg(
            captions=pl.col("caption").n_unique(),
            across=other.len() > 0,
            is_url=pl.col("is_url").first(),
            first=pl.col("position").first(),
            other=other.first(),
        )
        return groups.filter(pl.col("captions") > 1)

    def _read(self, part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
        """The records of a part and their positions."""
        records, positions = [], []
        with open(self._path, "rb") as file:
            for start in range(0, self._images, _BLOCK):
                block = np.fromfile(file, dtype=_RECORD, count=_BLOCK)
                own = np.flatnonzero(block["key"] % np.uint64(parts) == part)
                records.append(block[own])
                positions.append(start + own)
        return np.concatenate(records), np.concatenate(positions)
