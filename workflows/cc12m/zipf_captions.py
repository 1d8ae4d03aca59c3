"""Generated captions of any number, as CC12M's own TSV: for dry runs, where no crawl is at hand.

Content words follow Zipf's law over made-up words of six letters, so that the fake parser's tags are as
skewed as real ones. Short English words lie between them. Every tenth caption repeats an earlier one, as
on the web.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from common.storage import Folder
from workflows.zipf import Zipf, made_up_words

CONTENT = 4.6  # content words a caption on average, those of two thirds of all words
REPEATED = 0.1
BATCH_ROWS = 250_000
_SHORT = ("a", "the", "of", "in", "on", "and", "by", "at", "to", "for", "an", "up")
_GAP = 4  # at most so many short words before a content word: about 16 words a caption
_CONSONANTS, _SYLLABLES = "bcdfghjklmnprstvwz", 3


def write_captions(path: Path, rows: int, distinct: int = 500_000, seed: int = 0) -> None:
    """Writes `rows` lines `url<TAB>caption`; memory does not grow with their number.

    Args:
        path: of the TSV, which appears once it is complete.
        rows: lines.
        distinct: words to draw from.
        seed: the same rows, words and seed give the same file.

    Raises:
        UserError: the folder cannot be made.
    """
    Folder(path.parent).make()
    aside = path.with_name(f".{path.name}.part")
    with open(aside, "wb") as file:
        for lines in caption_lines(rows, distinct, seed):
            file.write(lines)
    aside.replace(path)


def caption_lines(rows: int, distinct: int, seed: int) -> Iterator[bytes]:
    """The lines of `write_captions`, `BATCH_ROWS` at a time."""
    made_up = made_up_words(distinct, _CONSONANTS, _SYLLABLES, seed)  # the most frequent first
    words = pa.array([*_SHORT, *map("".join, made_up)])
    zipf = Zipf(distinct)
    for start in range(0, rows, BATCH_ROWS):
        rng = np.random.default_rng([seed, start])
        count = min(BATCH_ROWS, rows - start)
        captions = _captions(words, zipf, count, rng)
        # A caption repeats one of the same batch: earlier batches are no longer in memory.
        again = rng.random(count) < REPEATED
        source = np.where(again, (rng.random(count) * np.arange(count)).astype(int), range(count))
        urls = pa.array([url(n) for n in range(start, start + count)])
        lines = pc.binary_join_element_wise(urls, captions.take(pa.array(source)), "\t")
        yield "\n".join([*lines.to_pylist(), ""]).encode()


def url(number: int) -> str:
    """Of the image in a row: as long as real ones, and as hard to compress."""
    folder = xxhash.xxh3_128_hexdigest(str(number).encode())
    return f"https://images.example/wp-content/uploads/{folder}/{number:09d}.jpg"


def _captions(words: pa.Array, zipf: Zipf, rows: int, rng: np.random.Generator) -> pa.Array:
    """Content words, one to `_GAP` short words before each."""
    content = 1 + rng.poisson(CONTENT - 1, rows)
    owner = np.repeat(np.arange(rows), content)
    long = zipf.draw(rng, len(owner)) + len(_SHORT)
    laid = np.empty((len(owner), _GAP + 1), dtype=np.int64)
    laid[:, :_GAP] = rng.integers(0, len(_SHORT), (len(owner), _GAP))
    gap = rng.integers(1, _GAP + 1, len(owner))
    laid[:, :_GAP][np.arange(_GAP) >= gap[:, None]] = -1
    laid[:, _GAP] = long
    lengths = np.bincount(owner, weights=gap + 1, minlength=rows)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    drawn = words.take(pa.array(laid[laid >= 0]))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(ends), drawn), " ")
