"""Reads tags and writes a vocabulary, a label file and a picture; `build_vocab.py` is the command."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, reason
from common.storage import Folder
from labels.counting import TagCounts, add_up, choose, count_list, count_row_groups, rank
from labels.execution import Mapper, mapper
from labels.images import batches_of, images_of, labelled_batches
from labels.label_file import LABELS, LabelWriter, read_footer, vocabulary_path
from labels.labelling import ids_by_tag, label_row_groups, narrow_lists, narrowing
from labels.picture import draw
from labels.settings import Settings
from labels.summary import Coverage, summarise
from labels.tag_folders import RowGroup, TagFolder, open_tag_folders
from labels.tag_lists import read_synonyms, read_tag_list
from labels.vocabulary import KINDS, Vocabulary, vocabulary_text

COUNT_ROWS = 6_000_000  # captions of a query: a streaming group-by's memory grows with its rows


def build(settings: Settings, note: Callable[[str], None] = print) -> tuple[str, list[Coverage]]:
    """Counts tags, chooses the vocabulary, and writes the label files.

    Args:
        settings: what to read and what to write.
        note: called with a sentence about anything that the user may not expect.

    Returns:
        The summary for the terminal, and the same numbers for every label file.

    Raises:
        UserError: something is wrong with the input or the disk. Label files of an earlier call are
            unchanged then, and no file with its final name is unfinished.
    """
    fixed = _read_vocabulary(settings.vocab)
    tag_list = read_tag_list(settings.vocab) if settings.vocab and fixed is None else None
    kinds = tuple(k for k in KINDS if k in fixed.kinds) if fixed else settings.chosen_kinds
    synonyms = read_synonyms(settings.synonyms) if settings.synonyms else {}
    stop_tags = read_tag_list(settings.stop_tags) if settings.stop_tags else []
    folders = open_tag_folders(settings.tags, kinds, settings.partial)
    for tags in folders:
        if tags.missing:
            note(f"{tags.name} is unfinished: its {tags.missing} missing shards are left out")
    with _read_errors(), mapper(settings.ray is not None, settings.ray or None) as map_batches:
        counts = count_tags(folders, kinds, synonyms, map_batches)
        ranked = rank(counts, stop_tags, settings.min_count)
        if fixed is not None:
            vocabularies = [fixed]
        elif tag_list is not None:
            vocabularies = [count_list(ranked, tag_list, kinds, counts.captions)]
            found = len(set(vocabularies[0].tags))
            note(
                f"{found:,} of the {len(tag_list):,} tags of {settings.vocab} occur in these captions"
            )
        else:
            vocabularies = [choose(ranked, sizes, counts.captions) for sizes in settings.sizes()]
            _note_large_k(settings, ranked, note)
        if not any(len(v) for v in vocabularies):
            raise UserError(f"no tag of {settings.vocab} occurs in {counts.captions} captions")
        coverages = [Coverage(v) for v in vocabularies]
        # In a thread: drawing takes as long as labelling a million images.
        with ThreadPoolExecutor(1) as drawing:
            pictures = drawing.map(lambda v: draw(ranked, counts.captions, v), vocabularies)
            _write_labels(folders, coverages, settings, synonyms, pictures, map_batches)
    return summarise(counts.tags, counts.unparsed, coverages), coverages


def count_tags(
    folders: Sequence[TagFolder],
    kinds: Sequence[str],
    synonyms: dict[str, str],
    map_batches: Mapper,
) -> TagCounts:
    """Counts the tags of all folders, `COUNT_ROWS` captions a query, or one batch a task on Ray.

    Args:
        folders: whose captions.
        kinds: the kinds of tags to count.
        synonyms: tag -> tag to count it as.
        map_batches: where the queries run.
    """

    def parts() -> Iterator[TagCounts]:
        for tags in folders:
            batches = batches_of(tags, None if map_batches.is_parallel else COUNT_ROWS)
            row_groups = [batch.row_groups for batch in batches]
            yield from map_batches(count_row_groups, row_groups, kinds, synonyms, tags.has_status)

    return add_up(parts())


def _write_labels(
    folders: Sequence[TagFolder],
    coverages: Sequence[Coverage],
    settings: Settings,
    synonyms: dict[str, str],
    pictures: Iterable[bytes],
    map_batches: Mapper,
) -> None:
    """Labels all images once with the largest vocabulary, and narrows their ids for each label file."""
    largest = max((coverage.vocabulary for coverage in coverages), key=len)
    narrowings = [narrowing(largest, coverage.vocabulary) for coverage in coverages]
    ids = ids_by_tag(largest, synonyms)
    outs = settings.outs()
    folder = outs[0].parent
    Folder(folder).make()
    with contextlib.ExitStack() as stack:
        spill = tempfile.TemporaryDirectory(prefix=f".spill.{os.getpid()}-", dir=folder)
        spill_folder = Path(stack.enter_context(spill))
        writers = [
            stack.enter_context(LabelWriter(out, coverage.vocabulary))
            for out, coverage in zip(outs, coverages, strict=True)
        ]

        def labelled(batches: Sequence[Sequence[RowGroup]]) -> Iterator[pl.DataFrame]:
            for frame in map_batches(label_row_groups, batches, ids):
                lists = _lists(frame)
                for coverage, to in zip(coverages, narrowings, strict=True):
                    coverage.captions.add(narrow_lists(lists, to))
                yield frame

        def write(frame: pl.DataFrame) -> None:
            lists, keys = _lists(frame), frame["key"].to_arrow().cast(pa.string())
            captions = frame["caption"].to_arrow().cast(pa.string())
            for coverage, writer, to in zip(coverages, writers, narrowings, strict=True):
                narrowed = narrow_lists(lists, to).cast(LABELS.field("tag_ids").type)
                coverage.images.add(narrowed)
                writer.write(pa.Table.from_arrays([keys, captions, narrowed], schema=LABELS))

        # In a thread: Parquet is encoded while the next images are joined.
        with ThreadPoolExecutor(1) as writing:
            last = None
            for tags in folders:
                batches, frames = labelled_batches(tags, labelled, spill_folder)
                for frame in images_of(tags, batches, frames, spill_folder, settings.partial):
                    if last is not None:
                        last.result()
                    last = writing.submit(write, frame)
            if last is not None:
                last.result()
        for writer in writers:
            writer.finish()  # all label files are complete before the first one is renamed
        for out, coverage, picture in zip(outs, coverages, pictures, strict=True):
            coverage.paths = [str(out), *_write_beside(out, coverage.vocabulary, picture)]


def remove_unfinished(folder: Path) -> None:
    """Deletes what this process has written in `folder` and not renamed yet."""
    for path in folder.glob(f".*.{os.getpid()}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _lists(frame: pl.DataFrame) -> pa.ListArray:
    return frame["tag_ids"].to_arrow().cast(pa.list_(pa.int32()))


def _write_beside(out: Path, vocabulary: Vocabulary, picture: bytes) -> list[str]:
    """Writes the vocabulary as Parquet and as text, and the picture; returns their paths."""
    folder = Folder(out.parent)
    name = vocabulary_path(out).name
    stem = out.name.removesuffix(".parquet")
    folder.write(f"{stem}.vocab.txt", vocabulary_text(vocabulary).encode())
    folder.write(f"{stem}.png", picture)
    folder.write_table(name, vocabulary.table())
    return [str(out.parent / each) for each in (name, f"{stem}.vocab.txt", f"{stem}.png")]


def _read_vocabulary(path: str | None) -> Vocabulary | None:
    """The vocabulary in a Parquet file; None where `path` is None or a text list."""
    if path is None or not path.endswith(".parquet"):
        return None
    if not os.path.isfile(path):
        raise UserError(f"there is no vocabulary {path}")
    try:
        schema = pq.read_schema(path)
        if "tag_ids" in schema.names:
            return read_footer(path)[2]
        return Vocabulary.from_table(pq.read_table(path), path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read the vocabulary {path}: {reason(error)}") from error


def _note_large_k(
    settings: Settings, ranked: dict[str, pl.DataFrame], note: Callable[[str], None]
) -> None:
    for kind, size in settings.sizes()[-1].items():
        distinct = len(ranked[kind])
        if distinct < size:
            note(
                f"K = {size:,} is more than the {distinct:,} distinct {kind}s: all of them are kept"
            )


@contextlib.contextmanager
def _read_errors() -> Iterator[None]:
    """Raises Polars' errors as `UserError`: a file that changed or broke after it was checked."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise UserError(f"cannot read the tags: {reason(error)}") from error
