"""The keys of images: which of an image's names a label file uses, and the join of images and labels by it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from common.errors import UserError
from common.storage import Folder
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


class Join(NamedTuple):
    """n pairs of an image and a row of labels; an image with several captions has several pairs.

    Attributes:
        images: int64 of shape (n,): rows of the index, ascending.
        labels: int64 of shape (n,): rows of the label file.
    """

    images: np.ndarray
    labels: np.ndarray


def join(
    index, files: ImageFiles, labels: Labels, field: str | None = None, place: str | None = None
) -> Join:
    """Finds each image's labels by its key.

    The keys of a label file may be the images' paths, their file names, or either without its ending, see
    `choose_naming`.

    Args:
        index: of the images, see `open_index`.
        files: what was indexed.
        labels: the label file.
        field: join by this field of each image's .json instead of its name.
        place: what messages call the place of the images; default the first of `files`.

    Raises:
        UserError: no image has a label, or one key means two images.
    """
    naming = None if field else choose_naming(index, files, labels)
    images, rows = [], []
    for start, part in parts_of(index):
        if field is not None:
            keys = [key or "" for key in part["field"].to_pylist()]
        else:
            keys = keys_by(naming, files, part["file"].to_pylist(), part["name"].to_pylist())
        which, positions = labels.matches(keys)
        images.append(start + which)
        rows.append(positions)
    joined = Join(*(np.concatenate([np.empty(0, np.int64), *parts]) for parts in (images, rows)))
    if not len(joined.images):
        ours = index[0]["field" if field else "name"] if len(index) else "nothing"
        theirs = labels.keys([0])[0] if len(labels) else "nothing"
        raise UserError(
            f"0 of the {len(index):,} images at {place or files.paths[0]} have one of the {len(labels):,} "
            f"keys of {labels.path}: an image is called '{ours}', a key '{theirs}' (see --key-field)"
        )
    check_one_image_a_key(index, files, labels, *joined)
    return joined


def cached_join(
    index,
    files: ImageFiles,
    labels: Labels,
    field: str | None,
    cache: Folder,
    place: str | None = None,
) -> Join:
    """As `join`, stored in a local cache, of which all ranks map one copy."""
    parts = []
    for path in (Path(index.cache_files[0]["filename"]), labels.path):
        stat = path.stat()
        parts += [path.resolve(), stat.st_mtime_ns, stat.st_size]
    digest = xxhash.xxh3_128_hexdigest("|".join(map(str, (*parts, field))).encode())
    name = f"pairs-v2-{digest}.npy"  # the first kind may hold two images of one key
    if not cache.exists(name):
        cache.make()
        buffer = io.BytesIO()
        np.save(buffer, np.stack(join(index, files, labels, field, place)))
        cache.write(name, buffer.getbuffer())
    return Join(*np.load(cache.path(name), mmap_mode="r"))


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
