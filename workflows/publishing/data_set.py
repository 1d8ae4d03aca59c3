"""A folder of Parquet shards and a card, as Hugging Face's hub and `datasets` want it.

README.md                     the card, see `card.py`
tags/train-*.parquet          one row per unique caption: its tags
images/train-*.parquet        the key of every image and the id of its caption, where the run has an index
labels/train-*.parquet        key, caption and tag ids, with --labels
vocabulary/train-*.parquet    what the tag ids mean, with --labels

A file has a few hundred MB at most, and only a small part of it is in memory at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import UserError, reason
from common.flags import setting
from common.storage import Folder
from labels.counting import count_row_groups
from labels.label_file import LABELS, SCORED_LABELS, SCORES, read_footer
from labels.tag_folders import TagFolder, manifest_of, open_file, open_tag_folders
from labels.vocabulary import KINDS, VOCABULARY, Vocabulary
from parsing.source.captions import INDEX
from parsing.tags import TAGS
from workflows.publishing.card import Contents, card

MADE_FROM = ".made_from.json"  # what the folder was made from; it stays on this machine
SHARD_BYTES = 256 << 20  # of a file; a few hundred MB suit the hub's viewer and streaming readers
GROUP_ROWS = 50_000
_PUBLISHED = ("caption_id", "caption", "objects", "attributes", "status")


@dataclass(frozen=True)
class PublishSettings:
    """Everything that decides what is published; every field is a flag of the same name.

    Raises:
        UserError: neither a folder nor a repository is named, or a name is not valid.
    """

    tags: str = setting("data/tags", "tag folder of a finished run", metavar="DIR")
    labels: str | None = setting(None, "label file made from these tags", metavar="FILE")
    to: str | None = setting(
        None, "folder to write; by default data/published/NAME of the repository", metavar="DIR"
    )
    repo: str | None = setting(None, "the hub's OWNER/NAME to upload to", metavar="OWNER/NAME")
    private: bool = setting(False, "make a new repository private")
    name: str | None = setting(None, "name of the data set in its card", metavar="TEXT")
    source: str | None = setting(None, "where the captions come from, for the card", metavar="TEXT")
    licence: str = setting(
        "other", "licence of the captions, by the hub's name of it (cc-by-4.0 ...)", metavar="NAME"
    )
    language: str = setting("en", "language of the captions, two letters", metavar="CODE")
    scores: str | None = setting(
        None, "scores.json of eval/parsers.py, for the card", metavar="FILE"
    )
    raw: bool = setting(False, "also publish the parser's unchanged answers, and its errors")

    def __post_init__(self) -> None:
        if self.to is None and self.repo is None:
            raise UserError("neither --to FOLDER nor --repo OWNER/NAME is given")
        if self.repo is not None and self.repo.count("/") != 1:
            raise UserError(f"--repo is OWNER/NAME, not {self.repo}")
        if self.to is not None and "://" in self.to:
            raise UserError(f"--to is a folder on this machine, not {self.to}")

    @property
    def folder(self) -> Path:
        return Path(self.to or f"data/published/{self.repo.partition('/')[2]}")

    @property
    def title(self) -> str:
        return self.name or self.folder.resolve().name


def write_data_set(settings: PublishSettings) -> Path:
    """Writes the folder, which appears under its name when it is complete; returns it.

    A folder that the same call made from the same files is left as it is.

    Raises:
        UserError: the tags, labels or scores cannot be read, the disk is full, or the folder holds
            something else.
    """
    [tags] = open_tag_folders([settings.tags])
    manifest = manifest_of(tags)
    vocabulary = read_footer(settings.labels)[2] if settings.labels else None
    scores = _scores(settings.scores) if settings.scores else None
    made_from = _made_from(settings, manifest, scores)
    out = settings.folder
    if out.exists():
        if not out.is_dir():
            raise UserError(f"{out} is a file: give another --to")
        if any(out.iterdir()):
            found = out / MADE_FROM
            if found.is_file() and found.read_text("utf-8") == made_from:
                return out
            raise UserError(f"{out} holds something else already: give another --to, or delete it")
    Folder(out.parent).make()
    with Folder(out.parent).write_errors():
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}-", dir=out.parent))
        try:
            contents = _write(aside, tags, manifest, vocabulary, scores, settings)
            (aside / "README.md").write_text(card(contents), "utf-8")
            (aside / MADE_FROM).write_text(made_from, "utf-8")
            aside.chmod(0o755)
            if out.is_dir():
                out.rmdir()  # it was empty
            aside.rename(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return out


def _write(
    aside: Path,
    tags: TagFolder,
    manifest: dict[str, Any],
    vocabulary: Vocabulary | None,
    scores: dict[str, Any] | None,
    settings: PublishSettings,
) -> Contents:
    fields = [*_PUBLISHED, *(("error", "raw") if settings.raw else ())]
    files = list(dict.fromkeys(group.path for group in tags.row_groups))
    schema = pa.schema([TAGS.field(n) for n in fields if n != "status" or tags.has_status])
    statuses: Counter[str] = Counter()
    labelled: Counter[bool] = Counter()

    def count_statuses(table: pa.Table) -> None:
        if tags.has_status:
            for entry in pc.value_counts(table["status"]).to_pylist():
                statuses[entry["values"]] += entry["counts"]

    def count_labelled(table: pa.Table) -> None:
        some = pc.greater(pc.list_value_length(table["tag_ids"]), 0)
        labelled[True] += pc.sum(some).as_py() or 0

    rows = {
        "tags": write_shards(aside / "tags", _tables(tags, files, schema, count_statuses), schema)
    }
    if tags.index:
        rows["images"] = write_shards(aside / "images", _tables(tags, tags.index, INDEX), INDEX)
    scored = False
    if vocabulary is not None:
        beside = TagFolder(settings.labels, (), (), Folder(Path(settings.labels).parent), 0, False)
        scored = SCORES.name in pq.read_schema(settings.labels).names
        labels = SCORED_LABELS if scored else LABELS
        tables = _tables(beside, [settings.labels], labels, count_labelled)
        rows["labels"] = write_shards(aside / "labels", tables, labels)
        rows["vocabulary"] = write_shards(aside / "vocabulary", [vocabulary.table()], VOCABULARY)
    return Contents(
        place=settings.repo or str(settings.folder),
        title=settings.title,
        source=settings.source,
        licence=settings.licence,
        language=settings.language,
        rows=rows,
        statuses=dict(statuses),
        counts=count_row_groups(tags.row_groups, KINDS, {}, tags.has_status),
        vocabulary=vocabulary,
        scored=scored,
        labelled=labelled[True],
        manifest=manifest,
        scores=scores,
        raw=settings.raw,
    )


def _tables(
    tags: TagFolder,
    paths: Iterable[str],
    schema: pa.Schema,
    watch: Callable[[pa.Table], None] = lambda table: None,
) -> Iterator[pa.Table]:
    """The rows of some files, cast to a schema, at most `GROUP_ROWS` at a time."""
    for path in paths:
        try:
            with open_file(tags.storage, path) as file, pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(GROUP_ROWS, columns=schema.names):
                    table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
                    watch(table)
                    yield table
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"cannot read {path}: {reason(error)}") from error


def write_shards(
    folder: Path, tables: Iterable[pa.Table], schema: pa.Schema, most_bytes: int | None = None
) -> int:
    """Writes tables as `train-00000-of-00003.parquet` ...; returns the number of rows.

    Args:
        folder: is created.
        tables: of the schema.
        schema: of the files; its metadata is left out.
        most_bytes: size at which the next file begins; None takes `SHARD_BYTES`.
    """
    folder.mkdir()
    schema, most_bytes = schema.remove_metadata(), most_bytes or SHARD_BYTES
    parts: list[Path] = []
    rows, writer = 0, None
    pending = schema.empty_table()
    try:
        for table in tables:
            pending = pa.concat_tables([pending, table.replace_schema_metadata()])
            rows += len(table)
            if len(pending) < GROUP_ROWS:
                continue
            writer = writer or _open_part(folder, parts, schema)
            writer.write_table(pending.combine_chunks(), row_group_size=GROUP_ROWS)
            pending = schema.empty_table()
            if parts[-1].stat().st_size >= most_bytes:
                writer.close()
                writer = None
        if len(pending) or not parts:
            writer = writer or _open_part(folder, parts, schema)
            writer.write_table(pending.combine_chunks(), row_group_size=GROUP_ROWS)
    finally:
        if writer is not None:
            writer.close()
    for number, part in enumerate(parts):
        part.rename(folder / f"train-{number:05d}-of-{len(parts):05d}.parquet")
    return rows


def _open_part(folder: Path, parts: list[Path], schema: pa.Schema) -> pq.ParquetWriter:
    parts.append(folder / f"part-{len(parts)}")
    # DuckDB reads 16-bit numbers only in the plain encoding.
    dictionary = SCORES.name not in schema.names
    return pq.ParquetWriter(parts[-1], schema, compression="zstd", use_dictionary=dictionary)


def _scores(path: str) -> dict[str, Any]:
    try:
        scores = json.loads(Path(path).read_text("utf-8"))
        scores["golds"][0]["parsers"][0]["objects"]["f1"]["value"]
    except OSError as error:
        raise UserError(f"cannot read the scores {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path} is no scores.json of eval/parsers.py") from error
    return scores


def _made_from(settings: PublishSettings, manifest: dict[str, Any], scores: Any) -> str:
    """Settings and inputs as text, equal for two calls that would write the same folder."""
    about = {k: v for k, v in asdict(settings).items() if k not in ("to", "repo", "private")}
    about |= {"manifest": manifest, "scores": scores}
    if settings.labels:
        about["label_file"] = read_footer(settings.labels)[1].digest
    return json.dumps(about, sort_keys=True)
