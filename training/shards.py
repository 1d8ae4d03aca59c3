"""Indexes the images in one webdataset shard, and tells empty and damaged shards apart."""

from __future__ import annotations

import json
import tarfile

import fsspec
import pyarrow as pa

from common.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
INDEX = pa.schema(
    [
        pa.field("file", pa.int32(), nullable=False),  # which shard, or which folder
        pa.field("name", pa.string(), nullable=False),  # of the image inside it
        pa.field("field", pa.string()),  # what the .json beside the image calls it, if asked for
        pa.field("offset", pa.int64(), nullable=False),  # bytes into the shard
        pa.field("size", pa.int64(), nullable=False),  # bytes; -1 for a file of its own
    ]
)


class EmptyShard(UserError):
    """A shard without images, as a downloader leaves one of which every image failed."""


class DamagedShard(UserError):
    """A shard that is cut off, or no tar."""


def index_shard(path: str, field: str | None = None) -> pa.Table:
    """The first image of each sample of one webdataset shard, as columns of `INDEX` but `file`.

    Hidden files, whose name or folder begins with a period, are no images.

    Raises:
        EmptyShard: it holds no image.
        DamagedShard: it is cut off or not a tar.
        UserError: it cannot be read.
    """
    names: list[str] = []
    fields: list[str | None] = []
    offsets: list[int] = []
    sizes: list[int] = []
    sample = None
    value: str | None = None
    try:
        with fsspec.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isfile() or is_hidden(member.name):
                    continue
                this = sample_key(member.name)
                if this != sample:
                    sample, value, has_image = this, None, False
                if field is not None and member.name.endswith(".json"):
                    value = _value(tar.extractfile(member).read(), field)
                    if has_image:
                        fields[-1] = value
                elif member.name.lower().endswith(ENDINGS) and not has_image:
                    has_image = True
                    names.append(member.name)
                    fields.append(value)
                    offsets.append(member.offset_data)
                    sizes.append(member.size)
            file.seek(tar.offset)
            block = file.read(tarfile.BLOCKSIZE)
            if block != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("the mark of its end is missing")
    except (tarfile.TarError, EOFError, ValueError) as error:
        if "empty file" not in str(error):
            reason = str(error).splitlines()[0]
            raise DamagedShard(f"the shard {path} is cut off or damaged: {reason}") from error
    except OSError as error:
        raise UserError(f"cannot read the shard {path}: {error.strerror or error}") from error
    if not names:
        raise EmptyShard(f"the shard {path} is empty: it holds no image")
    columns = {"name": names, "field": fields, "offset": offsets, "size": sizes}
    return pa.table(columns, schema=pa.schema([INDEX.field(name) for name in columns]))


def sample_key(name: str) -> str:
    """The key of webdataset's sample: the path up to the first dot of the file's name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def is_hidden(path: str) -> bool:
    """Whether a file, or a folder that it is in, is hidden, as thumbnails and copies of editors are."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part == "__MACOSX"
        for part in path.split("/")
    )


def _value(content: bytes, field: str) -> str | None:
    """A field of an image's .json; None if it is missing or the .json is damaged."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return None
    found = record.get(field) if isinstance(record, dict) else None
    return None if found is None else str(found)
