"""Reads tags and writes a vocabulary, a label file and a picture; `build_vocab.py` is the command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, reason
from common.storage import Folder
from labels.counting import (
    TagCounts,
    add_up,
    choose,
    count_list,
    count_row_groups,
    rank,
    spellings,
)
from labels.execution import Mapper, mapper
from labels.images import batches_of, images_of, labelled_batches
from labels.keys import Keys
from labels.label_file import LABELS, ROW_GROUP, LabelWriter, read_footer, vocabulary_path
from labels.labelling import ids_by_tag, label_row_groups, narrow_lists, narrowing
from labels.picture import draw
from labels.settings import Settings
from labels.summary import Coverage, summarise
from labels.synonyms import effect, found_synonyms, written_synonyms
from labels.tag_folders import RowGroup, TagFolder, manifest_of, open_tag_folders, same_captions
from labels.tag_lists import read_tag_list
from labels.vocabulary import KINDS, Vocabulary, vocabulary_text
from labels.vocabulary_pages import write_pages
from labels.workspace import Workspace, join

COUNT_ROWS = 6_000_000  # captions of a query: a streaming group-by's memory grows with its rows


def build(
    settings: Settings,
    note: Callable[[str], None] = print,
    workspace: Workspace | None = None,
) -> tuple[str, list[Coverage]]:
    """Counts tags, chooses the vocabulary, and writes the label files.

    Args:
        settings: what to read and what to write.
        note: called with a sentence about anything that the user may not expect.
        workspace: the caller's own where it may have to abandon the build.

    Returns:
        The summary for the terminal, and the same numbers for every label file.

    Raises:
        UserError: something is wrong with the input or the disk. All files of an earlier call are
            unchanged then, and no file with its final name is unfinished.
    """
    workspace = workspace or Workspace()
    fixed = _read_vocabulary(settings.vocab)
    tag_list = read_tag_list(settings.vocab) if settings.vocab and fixed is None else None
    kinds = tuple(k for k in KINDS if k in fixed.kinds) if fixed else settings.chosen_kinds
    synonyms = written_synonyms(settings.synonyms)
    stop_tags = read_tag_list(settings.stop_tags) if settings.stop_tags else []
    folders = open_tag_folders(settings.tags, kinds, settings.partial)
    for tags in folders:
        if tags.missing:
            note(f"{tags.name} is unfinished: its {tags.missing} missing shards are left out")
    if twice := same_captions(folders):
        note(
            f"{twice[0]} and {twice[1]} are of the same captions: each image is in the labels twice"
        )
    with _read_errors(), mapper(settings.ray is not None, settings.ray or None) as map_batches:
        counts = count_tags(folders, kinds, synonyms, map_batches)
        if composed := spellings(counts.tags["tag"]):
            # Once more, since a caption may hold both spellings of a tag, which is one.
            synonyms |= {tag: synonyms.get(nfc, nfc) for tag, nfc in composed.items()}
            counts = count_tags(folders, kinds, synonyms, map_batches)
        ranked = rank(counts, stop_tags, settings.min_count)
        change = ""
        keep = fixed.tags if fixed is not None else tag_list or ()
        if found := found_synonyms(settings.synonyms, counts.tags, keep):
            synonyms = found | {tag: found.get(target, target) for tag, target in synonyms.items()}
            counts = count_tags(folders, kinds, synonyms, map_batches)
            before, ranked = ranked, rank(counts, stop_tags, settings.min_count)
            change = effect(found, before, ranked, settings.sizes()[-1])
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
            pictures = drawing.map(
                lambda v: _picture(ranked, counts.captions, v, note), vocabularies
            )
            with workspace.open(settings.folder) as work:
                _write_labels(work, folders, coverages, settings, synonyms, map_batches, note)
                sets = [
                    _write_beside(work, name, coverage.vocabulary, picture)
                    for name, coverage, picture in zip(
                        settings.names(), coverages, pictures, strict=True
                    )
                ]
                for coverage, (labels, vocabulary, others) in zip(coverages, sets, strict=True):
                    written = [n for n in (labels, vocabulary, *others) if (work / n).exists()]
                    coverage.paths = [join(settings.folder, name) for name in written]
                workspace.publish(sets)
    if settings.page is not False:
        write_pages(folders, coverages, ranked, synonyms, settings, note)
    return summarise(counts.tags, counts.unparsed, coverages, change), coverages


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
    work: Path,
    folders: Sequence[TagFolder],
    coverages: Sequence[Coverage],
    settings: Settings,
    synonyms: dict[str, str],
    map_batches: Mapper,
    note: Callable[[str], None],
) -> None:
    """Labels all images once with the largest vocabulary, and narrows their ids for each label file."""
    largest = max((coverage.vocabulary for coverage in coverages), key=len)
    narrowings = [narrowing(largest, coverage.vocabulary) for coverage in coverages]
    ids = ids_by_tag(largest, synonyms)
    files = [work / name for name in settings.names()]
    spill = work / "spill"
    Folder(spill).make()
    keys = Keys(spill)
    made_from = [about for tags in folders if (about := manifest_of(tags).get("fingerprint"))]
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(LabelWriter(file, coverage.vocabulary, made_from=made_from))
            for file, coverage in zip(files, coverages, strict=True)
        ]

        def labelled(batches: Sequence[Sequence[RowGroup]]) -> Iterator[pl.DataFrame]:
            for frame in map_batches(label_row_groups, batches, ids):
                lists = _lists(frame)
                for coverage, to in zip(coverages, narrowings, strict=True):
                    coverage.captions.add(narrow_lists(lists, to))
                yield frame

        def write(frame: pl.DataFrame) -> None:
            keys.add(frame)
            lists, names = _lists(frame), frame["key"].to_arrow().cast(pa.string())
            captions = frame["caption"].to_arrow().cast(pa.string())
            for coverage, writer, to in zip(coverages, writers, narrowings, strict=True):
                narrowed = narrow_lists(lists, to).cast(LABELS.field("tag_ids").type)
                coverage.images.add(narrowed)
                writer.write(pa.Table.from_arrays([names, captions, narrowed], schema=LABELS))

        # In a thread: Parquet is encoded while the next images are joined.
        with ThreadPoolExecutor(1) as writing:
            last = None
            for tags in folders:
                batches, frames = labelled_batches(tags, labelled, spill)
                for number, frame in enumerate(
                    images_of(tags, batches, frames, spill, settings.partial)
                ):
                    if last is not None:
                        last.result()
                    if not number:
                        keys.begin_folder(tags.name)
                    last = writing.submit(write, frame)
            if last is not None:
                last.result()
    _check_keys(keys, files[0], note)


def _check_keys(keys: Keys, file: Path, note: Callable[[str], None]) -> None:
    """Names keys that stand for several captions.

    Raises:
        UserError: keys of two folders that are no URLs, as those of img2dataset, which begin anew.
    """
    repeated = keys.repeated()
    if repeated is None:
        return
    if repeated.across is not None:
        first, other = repeated.across
        raise UserError(
            f"the image '{_key_at(file, first)}' is in {keys.folder_of(first)} and in "
            f"{keys.folder_of(other)} with different captions, so the two cannot be told apart: name "
            "images by their URLs when parsing (--key-column url), or label each folder by itself"
        )
    note(
        f"{repeated.count:,} images have several captions, as '{_key_at(file, repeated.example)}' "
        "has: each caption is a row"
    )


def _key_at(file: Path, position: int) -> str:
    group, row = divmod(position, ROW_GROUP)
    with pq.ParquetFile(file) as labels:
        return labels.read_row_group(group, columns=["key"])["key"][row].as_py()


def _lists(frame: pl.DataFrame) -> pa.ListArray:
    return frame["tag_ids"].to_arrow().cast(pa.list_(pa.int32()))


def _picture(
    ranked: dict[str, pl.DataFrame],
    captions: int,
    vocabulary: Vocabulary,
    note: Callable[[str], None],
) -> bytes | None:
    """The picture as PNG; None where it cannot be drawn, which is no reason to lose the labels."""
    try:
        return draw(ranked, captions, vocabulary)
    except Exception as error:  # whatever a plotting library, its fonts and its caches raise
        note(f"the picture could not be drawn ({reason(error)}): there is none")
        return None


def _write_beside(
    work: Path, name: str, vocabulary: Vocabulary, picture: bytes | None
) -> tuple[str, str, list[str]]:
    """Writes the vocabulary as Parquet and as text, and the picture, beside a label file.

    Returns:
        names: of the label file, of the vocabulary, and of the other two.
    """
    folder, stem = Folder(work), name.removesuffix(".parquet")
    beside, text, png = vocabulary_path(name).name, f"{stem}.vocab.txt", f"{stem}.png"
    folder.write_table(beside, vocabulary.table())
    folder.write(text, vocabulary_text(vocabulary).encode())
    if picture is not None:
        folder.write(png, picture)
    return name, beside, [text, png]


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
