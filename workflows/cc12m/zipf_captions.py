"""Generated captions of any number, as CC12M's own TSV: for dry runs, where no crawl is at hand.

Content words follow Zipf's law over made-up words of four letters and more, so that the fake
parser's tags are as skewed as real ones; short words of English stand between them. Every tenth
caption repeats an earlier one, as on the web.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from parsing.storage import Folder

CONTENT = 4.6  # content words a caption on average, those of two thirds of all words
REPEATED = 0.1
BATCH_ROWS = 250_000
_SHORT = ("a", "the", "of", "in", "on", "and", "by", "at", "to", "for", "an", "up")
_GAP = 4  # at most so many short words before a content word: about 16 words a caption
_SYLLABLES = [c + v for c in "bcdfghjklmnprstvwz" for v in "aeiou"]


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
    words = pa.array([*_SHORT, *_words(distinct, seed)])
    weights = 1 / np.arange(1, distinct + 1)
    cdf = np.cumsum(weights / weights.sum())
    for start in range(0, rows, BATCH_ROWS):
        rng = np.random.default_rng([seed, start])
        count = min(BATCH_ROWS, rows - start)
        captions = _captions(words, cdf, count, rng)
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


def _words(count: int, seed: int) -> list[str]:
    """Made-up words of three syllables, the most frequent first."""
    base = len(_SYLLABLES)
    numbers = np.random.default_rng(seed).permutation(base**3)[:count].tolist()
    if len(numbers) < count:
        raise ValueError(f"there are {base**3:,} words at most, not {count:,}")
    return [
        _SYLLABLES[n // base**2] + _SYLLABLES[n // base % base] + _SYLLABLES[n % base]
        for n in numbers
    ]


def _captions(words: pa.Array, cdf: np.ndarray, rows: int, rng: np.random.Generator) -> pa.Array:
    """Content words, one to `_GAP` short words before each."""
    content = 1 + rng.poisson(CONTENT - 1, rows)
    owner = np.repeat(np.arange(rows), content)
    long = np.searchsorted(cdf, rng.random(len(owner))).clip(0, len(cdf) - 1) + len(_SHORT)
    laid = np.empty((len(owner), _GAP + 1), dtype=np.int64)
    laid[:, :_GAP] = rng.integers(0, len(_SHORT), (len(owner), _GAP))
    gap = rng.integers(1, _GAP + 1, len(owner))
    laid[:, :_GAP][np.arange(_GAP) >= gap[:, None]] = -1
    laid[:, _GAP] = long
    lengths = np.bincount(owner, weights=gap + 1, minlength=rows)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    drawn = words.take(pa.array(laid[laid >= 0]))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(ends), drawn), " ")
