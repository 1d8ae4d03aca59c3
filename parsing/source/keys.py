"""Keys of images that are ambiguous, noticed while the input is read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from common.errors import UserError
from parsing.source.readers import Source
from parsing.source.seen import SeenCaptions, hash_captions
from parsing.source.values import Row

BATCH_ROWS = 1_000  # few, because a small limit must not wait for a slow source


def rows_with_clear_keys(source: Source, tell: Callable[[str, str], None]) -> Iterator[Row]:
    """The checked rows of a source, as long as no key stands for images of two files.

    Keys that are URLs name the same image wherever they stand. Others may begin anew in every file or
    data set, as those of img2dataset do.

    Raises:
        UserError: a key of an earlier file comes again with another caption.
    """
    files = source.files()
    seen = SeenCaptions()
    for path in files:
        rows = source.checked(path, tell)
        if len(files) == 1:
            yield from rows
            return
        of_file: list[tuple[np.ndarray, np.ndarray]] = []
        while batch := list(itertools.islice(rows, BATCH_ROWS)):
            own = [row for row in batch if "://" not in row.key]
            keys, texts = ([row[n] for row in own] for n in (0, 1))
            hashes = hash_captions(keys), hash_captions(texts)[:, 1].view(np.int64)
            before = seen.find(hashes[0], missing=hashes[1])
            if (before != hashes[1]).any():
                key = keys[int(np.argmax(before != hashes[1]))]
                raise UserError(
                    f"the image '{key}' of {path} is also in an earlier file, with another caption, so "
                    "the two cannot be told apart: name images by their URLs (--key-column url), or "
                    "give each data set an --output of its own"
                )
            of_file.append(hashes)
            yield from batch
        if of_file:
            seen.add(*(np.concatenate(each) for each in zip(*of_file, strict=True)))
