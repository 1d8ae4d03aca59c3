"""Tags in; a vocabulary, a label file and a picture out. `build_vocab.py` is its command line."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from labels.counting import Counted, add_up, choose, count_list, count_pieces, rank
from labels.execution import Mapper, mapper
from labels.images import batches_of, images_of, labelled_batches
from labels.label_file import LABELS, LabelWriter, read_footer, vocabulary_path
from labels.labelling import ids_by_tag, label_pieces, narrow_lists, narrowing
from labels.picture import draw
from labels.runs import Piece, Run, open_runs
from labels.summary import Coverage, summarise
from labels.tag_lists import read_synonyms, read_tag_list
from labels.vocabulary import ATTRIBUTE, KINDS, OBJECT, Vocabulary, vocabulary_text
from parsing.errors import UserError
from parsing.storage import Folder

BOTH = "both"
DEFAULT_TAGS = "data/tags"
DEFAULT_OUT = "labels/cc12m_obj_attr.parquet"
DEFAULT_K = 10_000
COUNT_ROWS = 6_000_000  # captions a query: a streaming group-by's memory grows with its rows


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is written.

    Attributes:
        tags: tags folders or files, in the order their images should have.
        out: the label file; vocabulary and picture stand beside it.
        k: how many objects, and how many attributes, the vocabulary takes.
        k_objects, k_attributes: the same for one kind alone.
        ks: several `k`s, each with a label file of its own, from one pass over the tags.
        kinds: `object`, `attribute` or `both`; None is `both`.
        min_count: leave out tags of fewer captions.
        stop_tags: file of tags to leave out.
        synonyms: file of tags to count as another tag.
        vocab: label with this vocabulary instead of choosing one.
        partial: take an unfinished run as far as it has come.
        ray: spread the work over a Ray cluster.
        address: of that cluster; see `parsing.cluster.connected`.
    """

    tags: tuple[str, ...] = (DEFAULT_TAGS,)
    out: str = DEFAULT_OUT
    k: int | None = None
    k_objects: int | None = None
    k_attributes: int | None = None
    ks: tuple[int, ...] = ()
    kinds: str | None = None
    min_count: int = 1
    stop_tags: str | None = None
    synonyms: str | None = None
    vocab: str | None = None
    partial: bool = False
    ray: bool = False
    address: str | None = None

    def __post_init__(self) -> None:
        sizes = {"--k": self.k, "--k-objects": self.k_objects, "--k-attributes": self.k_attributes}
        for flag, size in [*sizes.items(), *(("--ks", k) for k in self.ks)]:
            if size is not None and size < 1:
                raise UserError(
                    f"{flag} must be at least 1, not {size}: --kinds leaves out a whole kind"
                )
        if self.min_count < 1:
            raise UserError(f"--min-count must be at least 1, not {self.min_count}")
        if self.kinds not in (None, *KINDS, BOTH):
            raise UserError(f"--kinds is {OBJECT}, {ATTRIBUTE} or {BOTH}, not {self.kinds}")
        if not self.out.endswith(".parquet") or Path(self.out).name == ".parquet":
            raise UserError(f"--out must name a .parquet file, not {self.out}")
        chosen = [flag for flag, size in sizes.items() if size is not None]
        if self.ks and chosen:
            raise UserError(f"--ks and {chosen[0]} exclude each other")
        if (self.kinds == OBJECT and self.k_attributes) or (
            self.kinds == ATTRIBUTE and self.k_objects
        ):
            raise UserError(
                f"--kinds {self.kinds} takes no tags of the other kind to count with --k-..."
            )
        if self.vocab is not None:
            fixed = [*chosen, *["--ks"] * bool(self.ks), *["--min-count"] * (self.min_count > 1)]
            fixed += ["--stop-tags"] * bool(self.stop_tags)
            if fixed:
                raise UserError(f"--vocab fixes the tags: it cannot be combined with {fixed[0]}")
            if self.kinds is not None and self.vocab.endswith(".parquet"):
                raise UserError("--vocab with a .parquet fixes the kinds: leave out --kinds")

    @property
    def chosen_kinds(self) -> tuple[str, ...]:
        return KINDS if self.kinds in (None, BOTH) else (self.kinds,)

    def sizes(self) -> list[dict[str, int]]:
        """Per label file: kind -> K."""
        per_kind = {OBJECT: self.k_objects, ATTRIBUTE: self.k_attributes}
        k = DEFAULT_K if self.k is None else self.k
        if self.ks:
            return [dict.fromkeys(self.chosen_kinds, k) for k in sorted(set(self.ks))]
        return [{kind: per_kind[kind] or k for kind in self.chosen_kinds}]

    def outs(self) -> list[Path]:
        """Per label file: where it goes. A sweep puts its K into each name: `x.k2500.parquet`."""
        if not self.ks:
            return [Path(self.out)]
        return [
            Path(f"{self.out.removesuffix('.parquet')}.k{k}.parquet") for k in sorted(set(self.ks))
        ]


def build(settings: Settings, note: Callable[[str], None] = print) -> tuple[str, list[Coverage]]:
    """Does all of it.

    Args:
        settings: what to do.
        note: is told, in a sentence, of what a person may not expect.

    Returns:
        The summary for the terminal, and the same numbers per label file.

    Raises:
        UserError: something is wrong with the input or the disk. Nothing is half-written then under a
            final name, and label files of an earlier call are as they were.
    """
    given = _given_vocabulary(settings.vocab)
    wanted = None if given else read_tag_list(settings.vocab) if settings.vocab else None
    kinds = tuple(k for k in KINDS if k in given.kinds) if given else settings.chosen_kinds
    synonyms = read_synonyms(settings.synonyms) if settings.synonyms else {}
    stop_tags = read_tag_list(settings.stop_tags) if settings.stop_tags else []
    runs = open_runs(settings.tags, kinds, settings.partial)
    for run in runs:
        if run.missing:
            note(f"{run.name} is unfinished: its {run.missing} missing shards are left out")
    with _explained(), mapper(settings.ray, settings.address) as spread:
        counted = count_runs(runs, kinds, synonyms, spread)
        ranked = rank(counted, stop_tags, settings.min_count)
        if given is not None:
            vocabularies = [given]
        elif wanted is not None:
            vocabularies = [count_list(ranked, wanted, kinds, counted.captions)]
            note(
                f"{_list_note(wanted, vocabularies[0])} of {settings.vocab} occur in these captions"
            )
        else:
            vocabularies = [choose(ranked, sizes, counted.captions) for sizes in settings.sizes()]
            _say_where_k_is_too_large(settings, ranked, note)
        if not any(len(v) for v in vocabularies):
            raise UserError(f"no tag of {settings.vocab} occurs in {counted.captions} captions")
        covered = [Coverage(v) for v in vocabularies]
        with ThreadPoolExecutor(1) as aside:  # drawing takes as long as labelling a million images
            pictures = aside.map(lambda v: draw(ranked, counted.captions, v), vocabularies)
            _label(runs, covered, settings, synonyms, pictures, spread)
    return summarise(counted.tags, counted.unparsed, covered), covered


def count_runs(
    runs: Sequence[Run], kinds: Sequence[str], synonyms: dict[str, str], spread: Mapper
) -> Counted:
    """Counts the tags of all runs: one query per `COUNT_ROWS` here, one task per batch on Ray."""

    def parts():
        for run in runs:
            batches = batches_of(run, None if spread.spreads else COUNT_ROWS)
            cut = [batch.pieces for batch in batches]
            yield from spread(count_pieces, cut, kinds, synonyms, run.has_status)

    return add_up(parts())


def _label(
    runs: Sequence[Run],
    covered: Sequence[Coverage],
    settings: Settings,
    synonyms: dict[str, str],
    pictures: Iterable[bytes],
    spread: Mapper,
) -> None:
    widest = max((one.vocabulary for one in covered), key=len)
    narrowings = [narrowing(widest, one.vocabulary) for one in covered]
    ids = ids_by_tag(widest, synonyms)
    outs = settings.outs()
    folder = outs[0].parent
    Folder(folder).make()
    with contextlib.ExitStack() as stack:
        spill = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=f".waiting.{os.getpid()}-", dir=folder)
        )
        writers = [
            stack.enter_context(LabelWriter(out, one.vocabulary))
            for out, one in zip(outs, covered, strict=True)
        ]

        def labelled(groups: Sequence[Sequence[Piece]]):
            for frame in spread(label_pieces, groups, ids):
                lists = _lists(frame)
                for one, to in zip(covered, narrowings, strict=True):
                    one.captions.add(narrow_lists(lists, to))
                yield frame

        def write(frame: pl.DataFrame) -> None:
            lists, keys = _lists(frame), frame["key"].to_arrow().cast(pa.string())
            captions = frame["caption"].to_arrow().cast(pa.string())
            for one, writer, to in zip(covered, writers, narrowings, strict=True):
                narrowed = narrow_lists(lists, to).cast(LABELS.field("tag_ids").type)
                one.images.add(narrowed)
                writer.write(pa.Table.from_arrays([keys, captions, narrowed], schema=LABELS))

        # Parquet is encoded while the next images are joined.
        with ThreadPoolExecutor(1) as writing:
            last = None
            for run in runs:
                batches, frames = labelled_batches(run, labelled, Path(spill))
                for frame in images_of(run, batches, frames, Path(spill), settings.partial):
                    if last is not None:
                        last.result()
                    last = writing.submit(write, frame)
            if last is not None:
                last.result()
        for writer in writers:
            writer.finish()  # all label files are whole before the first file changes its name
        for out, one, picture in zip(outs, covered, pictures, strict=True):
            one.paths = [str(out), *_write_beside(out, one.vocabulary, picture)]


def _lists(frame: pl.DataFrame) -> pa.ListArray:
    return frame["tag_ids"].to_arrow().cast(pa.list_(pa.int32()))


def _write_beside(out: Path, vocabulary: Vocabulary, picture: bytes) -> list[str]:
    """The vocabulary as Parquet and as text, and the picture; their paths."""
    folder = Folder(out.parent)
    name = vocabulary_path(out).name
    stem = out.name.removesuffix(".parquet")
    sink = pa.BufferOutputStream()
    pq.write_table(vocabulary.table(), sink, compression="zstd")
    folder.write(f"{stem}.vocab.txt", vocabulary_text(vocabulary).encode())
    folder.write(f"{stem}.png", picture)
    folder.write(name, sink.getvalue())
    return [str(out.parent / each) for each in (name, f"{stem}.vocab.txt", f"{stem}.png")]


def _given_vocabulary(path: str | None) -> Vocabulary | None:
    """Of a vocabulary's or a label file's Parquet; None where `path` is a text list or not given."""
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
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read the vocabulary {path}: {reason}") from error


def _list_note(wanted: Sequence[str], found: Vocabulary) -> str:
    return f"{len(set(found.tags)):,} of the {len(wanted):,} tags"


def _say_where_k_is_too_large(
    settings: Settings, ranked: dict[str, pl.DataFrame], note: Callable[[str], None]
) -> None:
    largest = settings.sizes()[-1]
    for kind, size in largest.items():
        have = len(ranked[kind])
        if have < size:
            note(
                f"K = {size:,} is more than the {have:,} distinct {kind}s there are: taking them all"
            )


@contextlib.contextmanager
def _explained():
    """A file that changed or broke after it was checked."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise UserError(f"cannot read the tags: {str(error).splitlines()[0]}") from error
