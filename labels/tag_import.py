"""Writes the tags of others as a tag folder, which `labels/build_vocab.py --tags` reads like a run's.

The folder has the files of a run: shards of schema `parsing.tags.TAGS` with their stats, the index from
keys to captions, and a manifest that says where the tags come from. It appears under its name when
it is complete. In memory are one shard of images, and 24 bytes for each image's key.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from common.errors import UserError
from common.flags import setting
from common.storage import Folder
from labels.foreign_tags import Tagged, read_tags
from labels.spill import Spill
from labels.tag_id_lists import read_tags_by_id
from parsing.normalise import default
from parsing.source.captions import DONE, INDEX, part_name
from parsing.source.identity import file_identity
from parsing.source.readers import Source
from parsing.source.seen import SeenCaptions, hash_captions
from parsing.tags import EMPTY, FAILED, OK, Parsed, count_statuses, tags_table

WHOLE, NAME, STEM = "whole", "name", "stem"
SHARD_ROWS = 100_000
_CAPTIONS = pa.schema([("position", pa.int64()), ("caption", pa.large_string())])
_CAPTION_ROWS = 65_536


@dataclass(frozen=True)
class ImportSettings:
    """Everything that decides what is written; every field is a flag of the same name.

    Raises:
        UserError: a file is not named, or a value is out of its range.
    """

    tags: str = setting(
        "", "file of tags: .json, .jsonl or .parquet, also compressed or a URL", metavar="FILE"
    )
    tag_list: str | None = setting(
        None, "where FILE holds ids: the list that gives them tags, .csv or text", metavar="FILE"
    )
    captions: tuple[str, ...] = setting(
        (),
        "captions of these images, in any form that parsing/run.py reads; joined by the key",
        metavar="PATH",
        action="extend",
    )
    out: str = setting("data/imported", "tag folder to write", metavar="DIR")
    tag_field: str | None = setting(
        None, "field of the tags; default: tags, objects, union_label_id ...", metavar="NAME"
    )
    key_field: str | None = setting(
        None, "field of the image's key; default: key, url, image_path ...", metavar="NAME"
    )
    key: str = setting(
        WHOLE,
        "which part of a key is kept: all of it, the file's name, or the name without its ending",
        choices=(WHOLE, NAME, STEM),
    )
    normalise: bool = setting(False, "bring the tags to the one form that parsed tags have")

    def __post_init__(self) -> None:
        if not self.tags:
            raise UserError("no file of tags named (--tags)")
        if "://" in self.out:
            raise UserError(f"--out is a folder on this machine, not {self.out}")
        if self.key not in (WHOLE, NAME, STEM):
            raise UserError(f"--key is {WHOLE}, {NAME} or {STEM}, not {self.key}")


@dataclass
class Counts:
    """What an import read.

    Attributes:
        images, tags: what was written; a tag counts once per image.
        repeated: images with the key of an earlier one; they are left out.
        with_caption: images with a caption.
        failed: images whose tags could not be read.
    """

    images: int = 0
    tags: int = 0
    repeated: int = 0
    with_caption: int = 0
    failed: int = 0


def import_tags(settings: ImportSettings, note: Callable[[str], None] = print) -> Counts:
    """Writes the tag folder.

    Args:
        settings: what to read and what to write.
        note: called with a sentence about what the user may not expect.

    Raises:
        UserError: something is wrong with a file or the disk, an id is not in the list, or the folder
            exists. Nothing is left behind.
    """
    out = Path(settings.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: give another --out, or delete it")
    names = read_tags_by_id(settings.tag_list) if settings.tag_list else None
    if names is not None:
        note(f"{settings.tag_list} names {len(names):,} tags, from '{names[0]}' to '{names[-1]}'")
    rows = read_tags(settings.tags, settings.tag_field, settings.key_field)
    Folder(out.parent).make()
    with _aside(out) as aside:
        folder = Folder(aside)
        counts, keys = _write(folder, rows, names, settings)
        shards = -(-counts.images // SHARD_ROWS)
        if settings.captions:
            counts.with_caption += _add_captions(folder, settings, keys, shards, note)
        about = counts.__dict__
        done = {"images": counts.images, "captions": counts.images, "malformed": counts.failed}
        folder.sub("captions").make()
        folder.sub("captions").write_json(DONE, {"counts": done | {"shards": shards}})
        manifest = {"fingerprint": fingerprint(settings), "finished": True, "shards": shards}
        folder.write_json("manifest.json", manifest | {"images": counts.images, "counts": about})
    _tell(counts, settings, note)
    return counts


def fingerprint(settings: ImportSettings) -> dict[str, Any]:
    """The origin of imported tags: names, sizes and hashes of the files, and how they were read."""
    return {
        "parser": "imported",
        "tags": file_identity(settings.tags),
        "tag_list": file_identity(settings.tag_list) if settings.tag_list else None,
        "captions": [
            file_identity(path) if not path.startswith("hf:") else path for path in
            (Source(settings.captions).files() if settings.captions else ())
        ],
        "tag_field": settings.tag_field,
        "key_field": settings.key_field,
        "key": settings.key,
        "normalised": settings.normalise,
    }  # fmt: skip


@contextlib.contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when the block ends, and is deleted when it raises."""
    with Folder(out.parent).write_errors():
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}-", dir=out.parent))
        try:
            yield aside
            aside.chmod(0o755)
            if out.is_dir():
                out.rmdir()  # it was empty
            aside.rename(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _write(
    folder: Folder, rows: Iterator[Tagged], names: Sequence[str] | None, settings: ImportSettings
) -> tuple[Counts, SeenCaptions]:
    """Writes shards and index; returns what was read, and the positions of the keys."""
    counts, seen = Counts(), SeenCaptions()
    index = folder.sub("index")
    index.make()
    shard = 0
    waiting: list[Tagged] = []
    while batch := list(itertools.islice(rows, _CAPTION_ROWS)):
        for row in batch:
            row.key = _key(row.key, settings.key)
        hashes = hash_captions([row.key for row in batch])
        _, first = np.unique(hashes, axis=0, return_index=True)
        fresh = np.zeros(len(batch), bool)
        fresh[first] = True
        fresh &= seen.find(hashes) < 0
        positions = counts.images + np.cumsum(fresh) - 1
        seen.add(hashes[fresh], positions[fresh])
        counts.images += int(fresh.sum())
        counts.repeated += int((~fresh).sum())
        waiting += itertools.compress(batch, fresh.tolist())
        while len(waiting) >= SHARD_ROWS:
            _write_shard(folder, index, shard, waiting[:SHARD_ROWS], names, settings, counts)
            shard, waiting = shard + 1, waiting[SHARD_ROWS:]
    if waiting:
        _write_shard(folder, index, shard, waiting, names, settings, counts)
    return counts, seen


def _key(key: str, part: str) -> str:
    if part == WHOLE:
        return key
    name = key.split("?")[0].rstrip("/").rpartition("/")[2] or key
    return name if part == NAME else name.rpartition(".")[0] or name


def _write_shard(
    folder: Folder,
    index: Folder,
    shard: int,
    rows: Sequence[Tagged],
    names: Sequence[str] | None,
    settings: ImportSettings,
    counts: Counts,
) -> None:
    parsed = [_parsed(row, names, settings) for row in rows]
    statuses = count_statuses(parsed)
    counts.tags += sum(len(p.objects) + len({a for a, _ in p.attributes}) for p in parsed)
    counts.failed += statuses[FAILED]
    counts.with_caption += sum(bool(row.caption) for row in rows)
    ids = range(shard * SHARD_ROWS, shard * SHARD_ROWS + len(rows))
    table = tags_table(ids, [row.caption for row in rows], parsed)
    folder.write_table(part_name(shard), table)
    folder.write_json(part_name(shard, "json"), {"rows": len(rows), "statuses": statuses})
    keys = pa.table([[row.key for row in rows], list(ids)], schema=INDEX)
    index.write_table(part_name(shard), keys)


def _parsed(row: Tagged, names: Sequence[str] | None, settings: ImportSettings) -> Parsed:
    if row.problem is not None:
        return Parsed(status=FAILED, error=row.problem)
    tags = [_named(tag, names, row, settings) for tag in row.tags]
    pairs = row.attributes
    tags += [thing for _, thing in pairs if thing]
    if settings.normalise:
        tags = [default().object(tag) for tag in tags]
        said = [(default().attribute(a), default().object(o) if o else None) for a, o in pairs]
        pairs = [(a, o) for a, o in said if a]
    objects, pairs = list(dict.fromkeys(filter(None, tags))), list(dict.fromkeys(pairs))
    return Parsed(objects, pairs, OK if objects or pairs else EMPTY)


def _named(
    tag: str | int, names: Sequence[str] | None, row: Tagged, settings: ImportSettings
) -> str:
    if isinstance(tag, str):
        return tag
    if names is None:
        raise UserError(
            f"{settings.tags} holds ids of tags ({row.key} has {tag}): give the list that names them "
            "with --tag-list"
        )
    if not 0 <= tag < len(names):
        raise UserError(
            f"{settings.tags} holds the id {tag} ({row.key}), and {settings.tag_list} names "
            f"{len(names):,} tags: is it the list of that file?"
        )
    return names[tag]


def _add_captions(
    folder: Folder,
    settings: ImportSettings,
    keys: SeenCaptions,
    shards: int,
    note: Callable[[str], None],
) -> int:
    """Gives the images of the shards their captions from other files; returns how many got one."""
    told: set[str] = set()

    def tell(kind: str, sentence: str) -> None:
        if kind not in told:
            told.add(kind)
            note(sentence)

    spilling = tempfile.TemporaryDirectory(prefix="spill-", dir=folder.root)
    with spilling as place:
        spill = Spill(Path(place), "captions", _CAPTIONS)
        rows = Source(settings.captions).checked_rows(tell)
        while batch := list(itertools.islice(rows, _CAPTION_ROWS)):
            positions = keys.find(hash_captions([_key(row.key, settings.key) for row in batch]))
            found = pl.DataFrame(
                {"position": positions, "caption": [row.caption for row in batch]},
                schema={"position": pl.Int64, "caption": pl.String},
            ).filter((pl.col("position") >= 0) & (pl.col("caption") != ""))
            spill.put(found.with_columns(bucket=pl.col("position") // SHARD_ROWS))
        total = Counter()
        for shard in range(shards):
            captions = spill.take(shard).unique("position", keep="first")
            table = folder.read_table(part_name(shard))
            joined = (
                pl.from_arrow(table.select(["caption_id", "caption"]))
                .join(captions, left_on="caption_id", right_on="position", how="left",
                      maintain_order="left")
            )  # fmt: skip
            total["new"] += joined.filter(
                pl.col("caption_right").is_not_null() & (pl.col("caption") == "")
            ).height
            column = joined["caption_right"].fill_null(joined["caption"])
            place_of = table.schema.get_field_index("caption")
            array = column.to_arrow().cast(pa.string())
            table = table.set_column(place_of, table.schema.field("caption"), array)
            folder.write_table(part_name(shard), table)
    return total["new"]


def _tell(counts: Counts, settings: ImportSettings, note: Callable[[str], None]) -> None:
    if counts.repeated:
        note(f"{counts.repeated:,} entries repeat the key of an earlier image and are left out")
    if counts.failed:
        note(f"the tags of {counts.failed:,} images cannot be read; their `error` says why")
    missing = counts.images - counts.with_caption
    if missing and settings.captions:
        note(f"{missing:,} images have no caption in {', '.join(settings.captions)}")
    elif missing:
        note(f"{missing:,} images have no caption: --captions joins them")
