"""The tokens of whole pictures on the frozen image path, kept so that trainings need not encode them again.

DIR/features.json                 `About`: what was encoded, and how
DIR/features-000000.safetensors   a chunk of pictures, see `feature_chunks.py`
DIR/images.arrow                  `FEATURES`: a picture a row; written last, so it marks a whole folder

Patch tokens and class tokens are those before the ViT's final LayerNorm and projection, which is what the
projector takes. Shapes: b pictures of a batch, N patches, C channels of the encoder.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod

import numpy as np
import pyarrow as pa
import xxhash

from common.errors import UserError
from common.storage import Folder
from training.clip import Clip
from training.feature_chunks import AGAIN, ChunkReader, ChunkWriter
from training.images import ImageFiles
from training.shards import INDEX
from training.surgery import SURGERY, ImagePath

ABOUT, IMAGES = "features.json", "images.arrow"
FEATURES = pa.schema(
    [
        *(INDEX.field(name) for name in ("file", "name", "field")),
        pa.field("chunk", pa.int32(), nullable=False),
        pa.field("place", pa.int32(), nullable=False),  # in its chunk
    ]
)
_ROWS = 65_536


@dataclass(frozen=True)
class Kind:
    """What a training must ask for to read features.

    Attributes:
        model: the encoder's name, for messages.
        model_fingerprint: of its weights.
        path: see `ImagePath`.
        depth: of CLIP Surgery, at most the number of blocks; 0 for the other paths.
        size: pixels of the side of the square that a picture is resized to.
        normalisation: of the pixels, `imagenet` or `clip`.
    """

    model: str
    model_fingerprint: str
    path: str
    depth: int
    size: int
    normalisation: str

    @classmethod
    def of(cls, clip: Clip, path: ImagePath, size: int, normalisation: str) -> Kind:
        blocks = len(clip.visual.transformer.resblocks)
        depth = min(path.depth, blocks) if path.mode == SURGERY else 0
        return cls(clip.name, clip.fingerprint, path.mode, depth, size, normalisation)


@dataclass(frozen=True)
class Source:
    """The pictures that were encoded.

    Attributes:
        pictures: see `digest`.
        chunks: number of chunks.
        chunk: pictures of a chunk, before those that cannot be decoded are left out.
        key_field: of each picture's .json that column `field` has.
        paths, are_shards: see `ImageFiles`.
    """

    pictures: str
    chunks: int
    chunk: int
    key_field: str | None
    paths: list[str]
    are_shards: bool


@dataclass(frozen=True)
class About:
    """What `features.json` holds."""

    kind: Kind
    source: Source

    @classmethod
    def read(cls, folder: Folder) -> About:
        """Raises `UserError` where the file is damaged, or of another version."""
        value = folder.read_json(ABOUT)
        try:
            return cls(Kind(**value["kind"]), Source(**value["source"]))
        except (KeyError, TypeError) as error:
            raise UserError(
                f"the features in {folder.url} were kept by another version of this program: remove the "
                f"folder and {AGAIN}"
            ) from error


class FeatureFolder:
    """A folder of features; see the head of this file.

    Attributes:
        about: what it holds.
        files: the pictures' own files.
    """

    def __init__(self, folder: Folder, about: About):
        self.folder, self.about = folder, about
        self.files = ImageFiles(tuple(about.source.paths), about.source.are_shards)

    @classmethod
    def begin(cls, url: str, about: About) -> FeatureFolder:
        """Makes the folder, or goes on with one that an earlier start has begun.

        Raises:
            UserError: it holds other features, or cannot be written.
        """
        folder = Folder(url)
        folder.make()
        if not folder.exists(ABOUT):
            folder.write_json(ABOUT, asdict(about))
        found = cls(folder, About.read(folder))
        found.refuse_other(about.kind)
        others = {
            "pictures": "other pictures",
            "chunk": "another --chunk",
            "key_field": "another --key-field",
        }
        for name, other in others.items():
            if getattr(found.about.source, name) != getattr(about.source, name):
                raise UserError(
                    f"{url} holds the features of {other}: remove it, or name another --features"
                )
        return found

    @classmethod
    def open(cls, url: str) -> FeatureFolder:
        """Opens a whole folder, for reading.

        Raises:
            UserError: there is none, or it is unfinished or damaged.
        """
        folder = Folder(url)
        if not folder.exists(ABOUT):
            raise UserError(
                f"there are no features in {url}: training/check_tags.py --features {url} keeps them"
            )
        found = cls(folder, About.read(folder))
        if not folder.exists(IMAGES):
            raise UserError(f"the features in {url} are not complete: {AGAIN}")
        return found

    def refuse_other(self, asked: Kind) -> None:
        """Raises `UserError` where the features are of another kind than is asked for."""
        url, ours = self.folder.url, self.about.kind
        if ours.model_fingerprint != asked.model_fingerprint:
            raise UserError(
                f"{url} holds the features of another model ({ours.model}) than {asked.model}"
            )
        for name in ("path", "depth", "size", "normalisation"):
            kept, wanted = getattr(ours, name), getattr(asked, name)
            if kept != wanted:
                raise UserError(
                    f"the features in {url} were kept with --{name} {kept}, and --{name} is {wanted} here: "
                    f"give --{name} {kept}, or another --features"
                )

    def reader(self) -> ChunkReader:
        """A new reader; an older one may hold files open that were replaced since."""
        remote = "" if self.folder.is_local else self.folder.url.rstrip("/")
        names = map(self.name, range(self.about.source.chunks))
        return ChunkReader(
            tuple(f"{remote}/{name}" if remote else self.folder.path(name) for name in names)
        )

    @staticmethod
    def name(chunk: int) -> str:
        return f"features-{chunk:06d}.safetensors"

    def missing(self) -> list[int]:
        """Chunks whose files are not there, or not whole."""
        reader, missing = self.reader(), []
        for chunk in range(self.about.source.chunks):
            try:
                reader.places(chunk)
            except UserError:
                missing.append(chunk)
        return missing

    def reopen(self) -> None:
        """Marks the folder as not complete, before chunks are written."""
        self.folder.remove(IMAGES)

    @contextlib.contextmanager
    def writer(self, chunk: int) -> Iterator[ChunkWriter]:
        """Writes a chunk; its file appears when the block ends, and not at all if it raises.

        Raises:
            UserError: there is no room.
        """
        name = self.name(chunk)
        if self.folder.is_local:
            with self.folder.aside(name) as path, open(path, "wb") as file:
                writer = ChunkWriter(file)
                yield writer
                writer.end()
            return
        with tempfile.TemporaryFile() as file:
            writer = ChunkWriter(file)
            yield writer
            writer.end()
            file.seek(0)
            self.folder.write(name, file.read())

    def finish(self, index) -> None:
        """Writes `images.arrow`, if it is not there.

        Args:
            index: the pictures' own, see `open_index`.

        Raises:
            UserError: a chunk is missing or damaged, or there is no room.
        """
        if self.folder.exists(IMAGES):
            return
        reader, sink = self.reader(), pa.BufferOutputStream()
        arrow = index.select_columns(FEATURES.names[:3]).with_format("arrow")
        with pa.ipc.new_stream(sink, FEATURES) as writer:
            for chunk in range(self.about.source.chunks):
                start, (count,) = reader.places(chunk)["images"]
                if count:
                    rows = np.frombuffer(reader.read(chunk, start, count * 8), np.int64)
                    table = arrow[rows.tolist()]
                    table = table.append_column("chunk", pa.array([chunk] * count, pa.int32()))
                    table = table.append_column("place", pa.array(range(count), pa.int32()))
                    writer.write_table(table.cast(FEATURES))
        self.folder.write(IMAGES, sink.getvalue())

    def index(self, cache: Folder):
        """The pictures: a `datasets.Dataset` of schema `FEATURES`, memory-mapped.

        Args:
            cache: a local folder, to which the index of a remote folder is copied.

        Raises:
            UserError: it is damaged.
        """
        from datasets import Dataset

        path = self.folder.path(IMAGES)
        if not self.folder.is_local:
            data = self.folder.read(IMAGES)
            name = f"features-{xxhash.xxh3_128_hexdigest(data)}.arrow"
            if not cache.exists(name):
                cache.make()
                cache.write(name, data)
            path = cache.path(name)
        try:
            return Dataset.from_file(path).select_columns(FEATURES.names)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{path} is damaged: remove it and {AGAIN}") from error


class Features:
    """The head's input of single pictures; can be pickled, for the processes of a loader.

    Args:
        kept: the folder.
        index: of its pictures.
        by_class: class tokens instead of patch tokens.

    Attributes:
        shape: of a picture's tokens, (N, C); N is 1 for class tokens.

    Raises:
        UserError: a chunk is missing, cut off or damaged, or does not belong to the others.
    """

    def __init__(self, kept: FeatureFolder, index, by_class: bool):
        self.reader, name = kept.reader(), "classes" if by_class else "tokens"
        places = [self.reader.places(chunk)[name] for chunk in range(kept.about.source.chunks)]
        shapes = {one.shape[1:] for one in places if one.shape[0]}
        if len(shapes) != 1:
            raise UserError(f"the features in {kept.folder.url} have {len(shapes)} shapes, not one")
        shape = shapes.pop()
        self.shape: tuple[int, int] = (1, *shape) if by_class else shape
        count = sum(one.shape[0] for one in places)
        if count != len(index):
            raise UserError(
                f"{kept.folder.path(IMAGES)} names {len(index):,} pictures, and the chunks hold {count:,}: "
                f"remove it and {AGAIN}"
            )
        self.starts = [one.start for one in places]
        self.index = index.select_columns(["chunk", "place"])

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Reads b pictures.

        Args:
            rows: of the index, int64 of shape (b,).
            out: float16 of shape (b, N, C), which is filled.

        Raises:
            OSError: a file is gone, or shorter than it was.
        """
        found = self.index[rows]
        size = 2 * prod(self.shape)
        for at, (chunk, place) in enumerate(zip(found["chunk"], found["place"], strict=True)):
            data = self.reader.read(chunk, self.starts[chunk] + place * size, size)
            out[at] = np.frombuffer(data, np.float16).reshape(self.shape)


def digest(index, rows: np.ndarray) -> str:
    """Hex digest of some pictures: their rows in an index, their files and names.

    Args:
        index: see `open_index`.
        rows: int64 of shape (n,).
    """
    found = xxhash.xxh3_128(rows.tobytes())
    arrow = index.select_columns(["file", "name"]).with_format("arrow")
    for start in range(0, len(rows), _ROWS):
        table = arrow[rows[start : start + _ROWS].tolist()]
        found.update(json.dumps([table[name].to_pylist() for name in ("file", "name")]).encode())
    return found.hexdigest()
