"""Image shards: the first and the last with images can be read to their end and have captions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import PurePath

import pyarrow as pa

from common.errors import UserError
from parsing.source.readers import Source
from training.images import find_images
from training.shards import EmptyShard, index_shard, sample_key
from workflows.cc12m.checks.finding import FAILED, OK, WARNING, Finding, ok, warning

READ = 1_000_000  # rows of captions whose keys are compared
URL = "url"  # the field of img2dataset's .json that holds it


def check_images(place: str, captions: Source | None) -> Iterator[Finding]:
    """Opens shards as the trainer does.

    Args:
        place: as given with --images.
        captions: whose keys the images are looked for among; None leaves that out.

    Raises:
        UserError: no images there, or a shard that is cut off or damaged.
    """
    files = find_images(place)
    if not files.are_shards:
        text = f"{len(files.paths):,} folders of images (a data set of this size belongs in shards)"
        yield ok(text)
        return
    empty: dict[str, str] = {}
    path, first = _first_with_images(files.paths, empty)
    _, last = _first_with_images(files.paths[::-1], empty)
    yield ok(
        f"{len(files.paths):,} shards, {len(first):,} images in the first and {len(last):,} in the "
        f"last; about {len(files.paths) * len(first):,} in all"
    )
    if empty:
        more = f", and {len(empty) - 1:,} more at either end" if len(empty) > 1 else ""
        yield warning(f"left out, as in training: {next(iter(empty.values()))}{more}")
    yield from _gaps(files.paths)
    if captions is not None:
        yield from _match(path, first, captions)


def _first_with_images(paths: Sequence[str], empty: dict[str, str]) -> tuple[str, pa.Table]:
    """The first shard that holds an image, and its index; sentences about those before it go to `empty`.

    img2dataset leaves an empty shard where every download failed, as in a last one of few images.

    Raises:
        UserError: none holds an image, or one is cut off or damaged.
    """
    for path in paths:
        try:
            return path, index_shard(path, URL)
        except EmptyShard as error:
            empty[path] = str(error)
    raise UserError(f"no shard holds an image: {empty[paths[0]]}")


def _gaps(paths: tuple[str, ...]) -> Iterator[Finding]:
    """img2dataset numbers its shards; one that failed is missing."""
    stems = [PurePath(path).stem for path in paths]
    if not all(stem.isdecimal() for stem in stems):
        return
    numbers = {int(stem) for stem in stems}
    missing = sorted(set(range(max(numbers))) - numbers)
    if missing:
        yield warning(
            f"{len(missing):,} shards are missing, the first is {missing[0]:0{len(stems[0])}d}.tar: run "
            "the same img2dataset command again, it fetches what is not there"
        )


def _match(path: str, shard: pa.Table, captions: Source) -> Iterator[Finding]:
    """Searches the first captions for the first shard's images, by key and by URL."""
    names = {sample_key(name).rpartition("/")[2] for name in shard["name"].to_pylist()}
    urls = {url for url in shard["field"].to_pylist() if url is not None}
    by_name: set[str] = set()
    by_url: set[str] = set()
    read = 0
    for row in itertools.islice(captions.rows(), READ):
        read += 1
        if row.key in names:
            by_name.add(row.key)
        if row.key in urls:
            by_url.add(row.key)
    best, way = max((len(by_name), "their keys"), (len(by_url), "their URLs"))
    where = f"{best:,} of the {len(shard):,} images in {path}"
    if not best:
        level = FAILED if read < READ else WARNING
        yield Finding(
            level,
            f"none of the images in {path} is among the first {read:,} captions: an image is called "
            f"{next(iter(names))!r} (URL {next(iter(urls), None)!r}), a caption's key is {row.key!r}; "
            "parse the captions that the images were downloaded for",
        )
        return
    flag = f" (train with --key-field {URL})" if way == "their URLs" else ""
    level = OK if best >= 0.9 * len(shard) else WARNING
    doubt = "" if level == OK else ": are these captions of another data set?"
    yield Finding(level, f"{where} have captions by {way}{flag}{doubt}")
