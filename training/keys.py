"""The keys of images: which of an image's names a label file uses, and that a key is one image."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from common.errors import UserError
from labels.reader import Labels
from training.images import ImageFiles, ImageReader
from training.shards import sample_key

_ROWS = 65_536
NAMINGS = (  # the most exact first
    "path",
    "path without ending",
    "file name",
    "file name without ending",
    "number in the file name without ending",  # COCO's 000000000139.jpg is image 139
)


def choose_naming(index, files: ImageFiles, labels: Labels) -> str:
    """The most exact of `NAMINGS` under which all labels have an image, else most of them.

    Args:
        index: of the images, see `open_index`.
        files: what was indexed.
        labels: the label file.
    """
    found = {naming: np.zeros(len(labels), dtype=bool) for naming in NAMINGS}
    for _, part in parts_of(index):
        owners, names = part["file"].to_pylist(), part["name"].to_pylist()
        tried: list[tuple[list[str], np.ndarray]] = []
        for naming in NAMINGS:
            keys = keys_by(naming, files, owners, names)
            # In a flat folder several namings are the same.
            rows = next((rows for those, rows in tried if those == keys), None)
            if rows is None:
                rows = labels.matches(keys)[1]
                tried.append((keys, rows))
            found[naming][rows] = True
    return max(NAMINGS, key=lambda naming: int(found[naming].sum()))


def parts_of(index) -> Iterator[tuple[int, dict]]:
    """The index by parts, as Arrow tables, each with the number of its first row."""
    arrow = index.with_format("arrow")
    for start in range(0, len(index), _ROWS):
        yield start, arrow[start : start + _ROWS]


def check_one_image_a_key(
    index, files: ImageFiles, labels: Labels, images: np.ndarray, rows: np.ndarray
) -> None:
    """Checks that no row of labels is that of two images.

    Args:
        index, files, labels: as in `choose_naming`.
        images: rows of the index, int64 of shape (n,).
        rows: the row of labels of each, int64 of shape (n,).

    Raises:
        UserError: a row has two images; the sentence names its key and both.
    """
    order = np.argsort(rows, kind="stable")
    again = np.flatnonzero(rows[order][1:] == rows[order][:-1])
    if not len(again):
        return
    first, second = (int(images[order[again[0] + i]]) for i in (0, 1))
    key = labels.keys([int(rows[order[again[0]]])])[0]
    reader = ImageReader(files)
    places = [reader.where(index[i]["file"], index[i]["name"]) for i in (first, second)]
    more = len(np.unique(rows[order][again])) - 1
    others = f", as {more:,} other keys do" if more else ""
    raise UserError(
        f"the key '{key}' of {labels.path} means two images{others}, {places[0]} and {places[1]}: train "
        "on one data set at a time, rename images, or join by a --key-field that tells them apart"
    )


def keys_by(naming: str, files: ImageFiles, owners: list[int], names: list[str]) -> list[str]:
    """The keys of images under one of `NAMINGS`.

    Args:
        naming: one of `NAMINGS`.
        files: what was indexed; paths are relative to its first folder, or inside a shard.
        owners, names: columns `file` and `name` of the index.
    """
    if files.are_shards:
        without_ending = sample_key
    else:
        place = files.paths[0]
        folders = [os.path.relpath(path, place) for path in files.paths]
        folders = ["" if folder == "." else folder + "/" for folder in folders]
        names = [folders[owner] + name for owner, name in zip(owners, names, strict=True)]
        without_ending = _without_ending
    if naming.endswith("without ending"):
        names = [without_ending(name) for name in names]
    if "file name" in naming:
        names = [name.rpartition("/")[2] for name in names]
    if naming.startswith("number"):
        names = [name.lstrip("0") or "0" if name.isdecimal() else name for name in names]
    return names


def _without_ending(name: str) -> str:
    return os.path.splitext(name)[0]
