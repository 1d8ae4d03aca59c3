"""The label file: one Parquet row per image, with the vocabulary in the file's own metadata.

Rows are in the order of the images' shards. A file that `training/check_tags.py` wrote has a column of
scores more (`SCORED_LABELS`); every reader takes both. The key-value metadata of the Parquet footer holds
`tagalign.labels` (JSON, see `About`) and `tagalign.vocabulary` (JSON, see `Vocabulary.to_json`), which
DuckDB's `parquet_kv_metadata` and pyarrow's `read_metadata(path).metadata` show.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from common.errors import UserError, reason
from common.storage import Folder
from labels.vocabulary import Vocabulary, check_columns, read_vocabulary_fingerprint

LABELS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field(
            "tag_ids", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False
        ),
    ]
)
# A score for each tag id, in [0, 1]: the probability that the picture shows it. Null: not judged.
SCORES = pa.field("scores", pa.list_(pa.field("element", pa.float16())), nullable=False)
SCORED_LABELS = LABELS.append(SCORES)
ABOUT_KEY = b"tagalign.labels"
CHECK_KEY = b"tagalign.check"  # JSON: how the scores were made
TAGS_KEY = (
    b"tagalign.tags"  # JSON: the fingerprints of the runs, or of the imports, that made the tags
)
VOCABULARY_KEY = b"tagalign.vocabulary"
FORMAT = 1
# The encodings that made the smallest files: frequent tags have small ids, so two of an id's four bytes
# are always zero and a third nearly always, and neighbouring keys share their first characters.
ENCODINGS = {
    "tag_ids.list.element": "BYTE_STREAM_SPLIT",
    "key": "DELTA_BYTE_ARRAY",
    "caption": "DELTA_LENGTH_BYTE_ARRAY",
}  # scores stay plain, as DuckDB reads 16 bits in no other encoding
ROW_GROUP = 131_072  # rows; a reader decodes a row group at a time


@dataclass(frozen=True)
class About:
    """What the footer of a label file says about it.

    Attributes:
        images: number of rows.
        labels: number of tag ids in all rows, the non-zeros of the label matrix.
        vocabulary: fingerprint of the vocabulary in the footer.
        digest: of keys, tag ids and scores, so that two files of the same shape have different footers.
        format: version of this layout.
    """

    images: int
    labels: int
    vocabulary: str
    digest: str
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def vocabulary_path(path: str | Path) -> Path:
    """The vocabulary file beside a label file: `x.parquet` -> `x.vocab.parquet`."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.parquet')}.vocab.parquet")


class LabelWriter:
    """Writes a label file under a temporary name and renames it once it is complete.

        with LabelWriter("x.parquet", vocabulary) as writer:
            writer.write(table)  # schema LABELS, rows in the order of the images

    When the block raises, the temporary file is deleted and an earlier label file stays.

    Args:
        path: of the file.
        vocabulary: the tags that the ids stand for.
        check: how the tags were checked, for the footer; then tables have schema `SCORED_LABELS`.
        made_from: fingerprints of what made the tags, for the footer.

    Raises:
        UserError: no room or no permission.
    """

    def __init__(
        self,
        path: str | Path,
        vocabulary: Vocabulary,
        check: dict[str, Any] | None = None,
        made_from: Sequence[dict[str, Any]] = (),
    ):
        self.path = Path(path)
        self.vocabulary = vocabulary
        self.check, self.made_from = check, made_from
        self.schema = LABELS if check is None else SCORED_LABELS
        self.images = self.labels = 0
        self._digest = xxhash.xxh3_128()
        self._pending = self.schema.empty_table()  # rows that do not fill a row group yet
        self._folder = Folder(self.path.parent)
        self._stack = contextlib.ExitStack()
        self._finished = False

    def __enter__(self) -> LabelWriter:
        self._folder.make()
        aside = self._stack.enter_context(self._folder.aside(self.path.name))
        with self._folder.write_errors():
            self._file = open(aside, "wb")
            self._writer = pq.ParquetWriter(
                self._file,
                self.schema,
                compression="zstd",
                compression_level=3,
                use_dictionary=False,
                column_encoding=ENCODINGS,
            )
        return self

    def write(self, table: pa.Table) -> None:
        """Adds rows. The file does not depend on how they are cut into calls.

        Args:
            table: schema `LABELS` or `SCORED_LABELS`, tag ids ascending in each row.

        Raises:
            UserError: no room on the disk.
        """
        table = table.select(self.schema.names).cast(self.schema)
        self._pending = pa.concat_tables([self._pending, table])
        while len(self._pending) >= ROW_GROUP:
            self._write_group(self._pending.slice(0, ROW_GROUP))
            self._pending = self._pending.slice(ROW_GROUP)

    def _write_group(self, table: pa.Table) -> None:
        keys, lists = (table[name].combine_chunks() for name in ("key", "tag_ids"))
        lengths = pc.binary_length(keys).to_numpy(), pc.list_value_length(lists).to_numpy()
        for part in (*lengths, _bytes(keys), lists.flatten().to_numpy()):
            self._digest.update(part)
        if self.check is not None:
            scores = table["scores"].combine_chunks().flatten()
            self._digest.update(scores.to_numpy(zero_copy_only=False))  # null as NaN
        self.images += len(table)
        self.labels += int(lengths[1].sum())
        with self._folder.write_errors():
            self._writer.write_table(table, row_group_size=ROW_GROUP)

    def finish(self) -> None:
        """Completes the temporary file, so that only the renaming is left.

        Raises:
            UserError: no room on the disk.
        """
        if self._finished:
            return
        if len(self._pending):
            self._write_group(self._pending)
        fingerprint = self.vocabulary.fingerprint
        about = About(self.images, self.labels, fingerprint, self._digest.hexdigest())
        metadata = {ABOUT_KEY: about.to_json(), VOCABULARY_KEY: self.vocabulary.to_json()}
        if self.check is not None:
            metadata[CHECK_KEY] = json.dumps(self.check, separators=(",", ":"))
        if self.made_from:
            metadata[TAGS_KEY] = json.dumps(self.made_from, separators=(",", ":"))
        with self._folder.write_errors():
            self._writer.add_key_value_metadata(metadata)
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._finished = True

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        with self._stack:  # renames the file, or deletes it
            try:
                if error is not None:
                    raise error
                self.finish()
            except BaseException:
                self._abandon()
                raise

    def _abandon(self) -> None:
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._writer.is_open = False  # the destructor would close it again, and print an error
        with contextlib.suppress(OSError):
            self._file.close()


def _bytes(keys: pa.StringArray) -> memoryview:
    ends = memoryview(keys.buffers()[1]).cast("i")
    data = memoryview(keys.buffers()[2] or b"")
    return data[ends[keys.offset] : ends[keys.offset + len(keys)]]


def read_footer(path: str | Path) -> tuple[pq.FileMetaData, About, Vocabulary]:
    """Reads and checks the footer of a label file, and the vocabulary inside.

    Raises:
        UserError: no such file, not Parquet, a wrong column, no vocabulary inside, or a file that
            is older than the vocabulary beside it.
    """
    path = Path(path)
    if not path.is_file():
        remote = ":/" in str(path)
        way = (
            "copy it to a local disk first" if remote else "python labels/build_vocab.py makes one"
        )
        raise UserError(f"there is no label file {path}: {way}")
    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"cannot read the label file {path} (damaged or cut off?): {reason(error)}"
        ) from error
    scored = SCORES.name in schema.names
    check_columns(schema, SCORED_LABELS if scored else LABELS, str(path))
    stored = footer.metadata or {}
    if ABOUT_KEY not in stored or VOCABULARY_KEY not in stored:
        raise UserError(
            f"{path} carries no vocabulary: it was rewritten by another tool, or labels/build_vocab.py "
            "did not make it"
        )
    about = _about(stored[ABOUT_KEY], path)
    vocabulary = Vocabulary.from_json(stored[VOCABULARY_KEY], str(path))
    beside = vocabulary_path(path)
    newer = read_vocabulary_fingerprint(str(beside)) if beside.is_file() else None
    if newer is not None and newer != about.vocabulary:
        raise UserError(
            f"{path} was made with an older vocabulary than {beside.name} beside it: "
            "run labels/build_vocab.py again, or move one of the two away"
        )
    return footer, about, vocabulary


def read_check(path: str | Path) -> dict[str, Any] | None:
    """How the scores of a label file were made; None for a file without scores.

    Raises:
        UserError: as `read_footer`, or damaged metadata.
    """
    footer, _, _ = read_footer(path)
    if SCORES.name not in footer.schema.to_arrow_schema().names:
        return None
    return _json(footer, CHECK_KEY, path) or {}


def read_made_from(path: str | Path) -> list[dict[str, Any]]:
    """Fingerprints of the runs or imports whose tags a label file holds; [] where it does not say.

    Raises:
        UserError: as `read_footer`, or damaged metadata.
    """
    footer, _, _ = read_footer(path)
    return _json(footer, TAGS_KEY, path) or []


def _json(footer: pq.FileMetaData, key: bytes, path: str | Path) -> Any:
    try:
        return json.loads((footer.metadata or {}).get(key, b"null"))
    except ValueError as error:
        raise UserError(f"the metadata of {path} is damaged: {error}") from error


def _about(text: bytes, path: Path) -> About:
    try:
        value = json.loads(text)
        if value.get("format") != FORMAT:
            raise UserError(
                f"{path} has label format {value.get('format')}, this version reads {FORMAT}"
            )
        return About(**value)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"the metadata of {path} is damaged: {error}") from error
