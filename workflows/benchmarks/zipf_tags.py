"""Generated tags of any size, laid out as a finished run: for benchmarks, where parsing would take days.

Tags follow Zipf's law over made-up words; every tenth image repeats the caption of an earlier one.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from parsing.source.captions import INDEX
from parsing.tags import TAGS
from workflows.zipf import Zipf, made_up_words

OBJECTS, ATTRIBUTES = 3.2, 1.5  # on average, before repetitions in a caption are dropped
REPEATED = 0.1
INDEX_ROWS = 1_000_000
_CONSONANTS, _SYLLABLES = "bcdfghklmnprst", 4
MOST_WORDS = (len(_CONSONANTS) * 5) ** _SYLLABLES


def write_run(folder: Path, rows: int, distinct: int, shard_rows: int, seed: int = 0) -> None:
    """Writes `rows` captions, about 4.6 tags each, and 1 / (1 - `REPEATED`) images a caption."""
    for name in ("index", "captions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    words, zipf = pa.array(_words(distinct, seed)), Zipf(distinct)
    shards = -(-rows // shard_rows)
    for shard in range(shards):
        first = shard * shard_rows
        rng = np.random.default_rng([seed, shard])
        table = _shard(words, zipf, first, min(shard_rows, rows - first), rng)
        pq.write_table(table, folder / f"part-{shard:06d}.parquet", compression="zstd")
        (folder / f"part-{shard:06d}.json").write_text("{}\n")
    images = _write_index(folder / "index", rows, seed)
    counts = {"images": images, "captions": rows, "malformed": 0, "shards": shards}
    (folder / "captions" / "done.json").write_text(json.dumps({"counts": counts}))
    (folder / "manifest.json").write_text(json.dumps({"finished": True, "shards": shards}))


def _words(count: int, seed: int) -> list[str]:
    """Every third is a tag of two words."""
    found = made_up_words(count, _CONSONANTS, _SYLLABLES, seed)
    return [
        "".join(parts[:2]) + " " * (number % 3 == 0) + "".join(parts[2:])
        for number, parts in enumerate(found)
    ]


def _shard(
    words: pa.Array, zipf: Zipf, first: int, rows: int, rng: np.random.Generator
) -> pa.Table:
    owner = np.repeat(np.arange(rows), rng.poisson(OBJECTS, rows))
    tags = zipf.draw(rng, len(owner))
    keep = np.sort(np.unique(owner * len(words) + tags, return_index=True)[1])
    owner, tags = owner[keep], tags[keep]
    objects = np.bincount(owner, minlength=rows)
    object_ends = np.concatenate([[0], np.cumsum(objects)]).astype(np.int32)
    attributes = np.where(objects > 0, rng.poisson(ATTRIBUTES, rows), 0)
    attribute_ends = np.concatenate([[0], np.cumsum(attributes)]).astype(np.int32)
    of = np.repeat(np.arange(rows), attributes)
    adjectives = zipf.draw(rng, len(of))
    nouns = tags[object_ends[of] + rng.integers(0, 2**30, len(of)) % objects[of]]
    names = pa.ListArray.from_arrays(pa.array(object_ends), words.take(pa.array(tags)))
    pairs = pa.StructArray.from_arrays(
        [words.take(pa.array(adjectives)), words.take(pa.array(nouns))], ["attribute", "object"]
    )
    captions = pc.binary_join(names, " and the ")
    columns = [
        pa.array(np.arange(first, first + rows)),
        captions,
        names,
        pa.ListArray.from_arrays(pa.array(attribute_ends), pairs),
        pa.repeat("ok", rows),
        pa.nulls(rows, pa.string()),
        captions,
    ]
    return pa.Table.from_arrays(columns, schema=TAGS)


def _write_index(folder: Path, captions: int, seed: int) -> int:
    rng = np.random.default_rng([seed, 1])
    images = round(captions / (1 - REPEATED))
    fresh = np.ones(images, dtype=bool)
    if images > 1:
        fresh[rng.choice(np.arange(1, images), images - captions, replace=False)] = False
    ids = np.cumsum(fresh) - 1
    again = np.flatnonzero(~fresh)
    ids[again] = (rng.random(len(again)) * (ids[again] + 1)).astype(np.int64)
    for number, start in enumerate(range(0, images, INDEX_ROWS)):
        part = ids[start : start + INDEX_ROWS]
        keys = pa.array([f"{key:09d}" for key in range(start, start + len(part))])
        table = pa.Table.from_arrays([keys, pa.array(part)], schema=INDEX)
        pq.write_table(table, folder / f"part-{number:06d}.parquet", compression="zstd")
    return images
