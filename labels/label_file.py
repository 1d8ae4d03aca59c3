"""The labels contract: one Parquet row per image, with the vocabulary in the file's own metadata.

Rows stand in the order of the images' shards. The key-value metadata of the Parquet footer holds
`tagalign.labels` (a small JSON: format, counts, digest) and `tagalign.vocabulary` (JSON, see
`Vocabulary.to_json`), where DuckDB's `parquet_kv_metadata` and pyarrow's `read_metadata(path).metadata` find them.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from labels.vocabulary import Vocabulary, check_columns, read_vocabulary_fingerprint
from parsing.errors import UserError

LABELS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field(
            "tag_ids", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False
        ),
    ]
)
ABOUT_KEY = b"tagalign.labels"
VOCABULARY_KEY = b"tagalign.vocabulary"
FORMAT = 1
# The smallest of Parquet's encodings, measured: frequent tags have small ids, so that of an id's four
# byte planes two are all zeros and one nearly; keys share their beginnings with their neighbours.
ENCODINGS = {
    "tag_ids.list.element": "BYTE_STREAM_SPLIT",
    "key": "DELTA_BYTE_ARRAY",
    "caption": "DELTA_LENGTH_BYTE_ARRAY",
}
ROW_GROUP = 131_072  # rows; a reader of rows decodes no more than this at once


@dataclass(frozen=True)
class About:
    """The small JSON in a label file's footer.

    Attributes:
        images: rows.
        labels: tag ids in all rows together, the non-zeros of the matrix.
        vocabulary: fingerprint of the vocabulary inside.
        digest: of keys and tag ids, so that two files of the same shape differ in their footers.
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
    """Where the vocabulary of a label file stands on its own: `x.parquet` -> `x.vocab.parquet`."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.parquet')}.vocab.parquet")


class LabelWriter:
    """Writes a label file aside; it takes its name only once it is whole.

        with LabelWriter("x.parquet", vocabulary) as writer:
            writer.write(table)  # schema LABELS, rows in the order of the images

    Where the block ends in an exception nothing is left but an earlier file of that name.

    Raises:
        UserError: no room or no permission.
    """

    def __init__(self, path: str | Path, vocabulary: Vocabulary):
        self.path = Path(path)
        self.vocabulary = vocabulary
        self.images = self.labels = 0
        self._digest = xxhash.xxh3_128()
        self._waiting = LABELS.empty_table()
        self._aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self._finished = False

    def __enter__(self) -> LabelWriter:
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._aside, "wb")
            self._writer = pq.ParquetWriter(
                self._file,
                LABELS,
                compression="zstd",
                compression_level=3,
                use_dictionary=False,
                column_encoding=ENCODINGS,
            )
        return self

    def write(self, table: pa.Table) -> None:
        """Adds rows. However they are cut into calls, the file comes out the same.

        Args:
            table: schema `LABELS`, tag ids ascending in each row.
        """
        self._waiting = pa.concat_tables([self._waiting, table.select(LABELS.names).cast(LABELS)])
        while len(self._waiting) >= ROW_GROUP:
            self._write_group(self._waiting.slice(0, ROW_GROUP))
            self._waiting = self._waiting.slice(ROW_GROUP)

    def _write_group(self, table: pa.Table) -> None:
        keys, _, lists = (column.combine_chunks() for column in table.columns)
        lengths = pc.binary_length(keys).to_numpy(), pc.list_value_length(lists).to_numpy()
        for part in (*lengths, _bytes(keys), lists.flatten().to_numpy()):
            self._digest.update(part)
        self.images += len(table)
        self.labels += int(lengths[1].sum())
        with self._explained():
            self._writer.write_table(table, row_group_size=ROW_GROUP)

    def finish(self) -> None:
        """Completes the file aside, so that all that is left is the renaming."""
        if self._finished:
            return
        if len(self._waiting):
            self._write_group(self._waiting)
        fingerprint = self.vocabulary.fingerprint
        about = About(self.images, self.labels, fingerprint, self._digest.hexdigest())
        with self._explained():
            self._writer.add_key_value_metadata(
                {ABOUT_KEY: about.to_json(), VOCABULARY_KEY: self.vocabulary.to_json()}
            )
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._finished = True

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.finish()
                with self._explained():
                    os.replace(self._aside, self.path)
            else:
                self._abandon()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self._aside)

    def _abandon(self) -> None:
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._writer.is_open = False  # else it closes itself again when collected, and complains
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"cannot write {self.path}: {reason}") from error


def _bytes(keys: pa.StringArray) -> memoryview:
    ends = memoryview(keys.buffers()[1]).cast("i")
    data = memoryview(keys.buffers()[2] or b"")
    return data[ends[keys.offset] : ends[keys.offset + len(keys)]]


def read_footer(path: str | Path) -> tuple[pq.FileMetaData, About, Vocabulary]:
    """Reads and checks all of a label file but its rows.

    Raises:
        UserError: no such file, not Parquet, a wrong column, no vocabulary inside, or a file that
            is older than the vocabulary beside it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no label file {path}: python labels/build_vocab.py makes one")
    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"cannot read the label file {path} (damaged or cut off?): {reason}"
        ) from error
    check_columns(schema, LABELS, str(path))
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
