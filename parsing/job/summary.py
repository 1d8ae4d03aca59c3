"""What a finished run has found, in a few lines."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from parsing.job.progress import duration
from parsing.job.run_folder import RunFolder

TOP = 20


def top_tags(folder: RunFolder, shards: int, count: int = TOP) -> tuple[list, list]:
    """The most frequent objects and attributes as (tag, captions that carry it).

    Read shard by shard: a summary of CC12M needs no more memory than one of a thousand captions.
    """
    objects: Counter[str] = Counter()
    attributes: Counter[str] = Counter()
    for shard in range(shards):
        tags = pl.from_arrow(folder.read(shard, ["objects", "attributes"]))
        said = pl.col("attributes").list.eval(pl.element().struct.field("attribute"))
        for counter, column in ((objects, pl.col("objects")), (attributes, said)):
            once = tags.select(tag=column.list.unique()).explode("tag").drop_nulls()
            counter.update(dict(once.group_by("tag").len().iter_rows()))
    return tuple(
        sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:count]
        for counter in (objects, attributes)
    )


def summarise(folder: RunFolder) -> str:
    """The closing summary of a finished run, to be printed."""
    manifest = folder.manifest()
    counts: dict[str, Any] = manifest["counts"]
    session = manifest["sessions"][-1]
    statuses = ", ".join(f"{n:,} {status}" for status, n in counts["statuses"].items() if n)
    lines = [
        f"{counts['rows']:,} captions of {manifest['images']:,} images: {statuses}",
        f"{counts['objects']:,} objects, {counts['attributes']:,} attributes",
        f"this part took {duration(session['seconds'])}, parsers were held for "
        f"{session['actor_hours']:.2f} h in all",
    ]
    first, read = (session.get(f"seconds_to_{what}") for what in ("first_commit", "input_read"))
    if first is not None and read is not None:
        lines.append(
            f"the first shard was there after {duration(first)}, the input was read after {duration(read)}"
        )
    if counts["output_tokens"]:
        per_caption = counts["output_tokens"] / counts["rows"]
        lines.insert(2, f"{counts['output_tokens']:,} tokens out, {per_caption:.1f} a caption")
    if dropped := counts.get("dropped_tags"):
        lines.insert(2, f"{dropped:,} tags of answers used words that their captions lack: dropped")
    for title, tags in zip(
        ("objects", "attributes"), top_tags(folder, manifest["shards"]), strict=True
    ):
        words = ", ".join(f"{tag} {count:,}" for tag, count in tags)
        lines.append(f"most frequent {title}: {words or 'none'}")
    lines.append(f"tags: {folder.url}/part-*.parquet")
    return "\n".join(lines)
