"""Indexes the images in webdataset shards or under a folder, reads them by position, and decodes them.

Shards are indexed once (name, offset and size of each image inside its tar). Any rank and worker can
then read any image, in any order, without reading the bytes before it. The index is an Arrow file that
`datasets` memory-maps, so that processes share one copy.
"""

from __future__ import annotations

import glob
import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context

import fsspec
import numpy as np
import pyarrow as pa
import xxhash
from PIL import ExifTags, Image
from tqdm import tqdm

from common.errors import UserError
from common.storage import Folder
from training.shards import ENDINGS, INDEX, DamagedShard, EmptyShard, index_shard, is_hidden

_OPEN_FILES = 64
_NAMED = 50  # shards that a message names


@dataclass(frozen=True)
class ImageFiles:
    """The places that hold images.

    Attributes:
        paths: webdataset shards, or the folder itself and those below it that hold images.
        are_shards: which of the two.
    """

    paths: tuple[str, ...]
    are_shards: bool

    @property
    def kind(self) -> str:
        return "shards" if self.are_shards else "folders"


def find_images(place: str) -> ImageFiles:
    """The shards or image folders at `place`.

    Args:
        place: a folder or a glob of shards, local or any fsspec URL, or a local folder of images.

    Raises:
        UserError: `place` cannot be reached, or holds neither shards nor images.
    """
    try:
        fs, root = fsspec.core.url_to_fs(place)
        is_folder = fs.isdir(root)
        pattern = f"{glob.escape(root.rstrip('/'))}/*.tar" if is_folder else root
        # A file's own name may look like a pattern.
        found = [root] if not is_folder and fs.isfile(root) else fs.glob(pattern)
        found = sorted(str(path) for path in found)
        found = [path for path in found if not os.path.basename(path).startswith(".")]
    except Exception as error:  # each file system and its network raise their own
        raise UserError(f"cannot reach {place}: {error or type(error).__name__}") from error
    if found and found[0].endswith((".tar.gz", ".tgz")):
        raise UserError(
            f"{found[0]} is compressed, and images in a compressed shard cannot be read by position"
        )
    if found and not is_folder and not all(path.endswith(".tar") for path in found):
        raise UserError(f"{place} is neither a shard nor a folder: {found[0]} is no .tar")
    if found and not any(fs.isdir(path) for path in found):
        return ImageFiles(
            tuple(fs.unstrip_protocol(p) if "://" in place else p for p in found), True
        )
    if is_folder and "://" not in place:
        folders = sorted(_folders(place))
        if folders:
            return ImageFiles((place, *(f for f in folders if f != place)), False)
        raise UserError(f"{place} holds neither webdataset shards (*.tar) nor images")
    raise UserError(f"there are no images at {place}: name a folder of shards or images (--images)")


def images_below(place: str) -> list[str]:
    """The paths of the images in a local folder and in those below it, but for hidden ones."""
    return [os.path.join(folder, name) for folder in _folders(place) for name in _names(folder)]


def _folders(place: str) -> Iterator[str]:
    """The folder and those below it that hold images, but for hidden ones.

    A folder that links lead to as well is given once, by its own path if that lies below `place`.
    """
    pending, links, walked = [place], [], set()
    while pending or links:
        if not pending:
            pending, links = links, []
        folder = pending.pop()
        real = os.path.realpath(folder)
        if real in walked:
            continue
        walked.add(real)
        if _names(folder):
            yield folder
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir() and not is_hidden(entry.name):
                    (links if entry.is_symlink() else pending).append(entry.path)


def _names(folder: str) -> list[str]:
    """The names of the images directly inside a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(ENDINGS)
            and not is_hidden(entry.name)
            and not entry.is_dir()
        )


def open_index(
    files: ImageFiles,
    field: str | None,
    cache: Folder,
    skip_damaged: bool = False,
    note: Callable[[str], None] = print,
):
    """The index of these images, built if the cache has none of the files as they are now.

    Args:
        files: as `find_images` gives them.
        field: of the .json beside each image in a shard, to be kept in column `field`.
        cache: a local folder.
        skip_damaged: leave out the shards that are cut off or no tar, which are an error else.
        note: told in a sentence which shards are left out; those without images always are.

    Returns:
        `datasets.Dataset` of schema `INDEX`, in the order of the files.

    Raises:
        UserError: damaged shards, all of them named; no image in any shard; or a cache that cannot be
            written.
    """
    from datasets import Dataset

    identity = xxhash.xxh3_128(json.dumps([files.kind, field]).encode())
    for path in files.paths:
        identity.update(json.dumps([path, *_stamp(path, files.are_shards)]).encode())
    name = f"images-{identity.hexdigest()}.arrow"
    faults = f"images-{identity.hexdigest()}.json"
    if not cache.exists(name) or not cache.exists(faults):
        cache.make()
        index, found = _build_index(files, field)
        cache.write_json(faults, found)
        cache.write(name, index)
    _judge(cache.read_json(faults), len(files.paths), skip_damaged, note)
    return Dataset.from_file(cache.path(name))


def _judge(
    faults: dict[str, list[str]], shards: int, skip_damaged: bool, note: Callable[[str], None]
) -> None:
    """Tells of the shards that are left out, or raises an error about them."""
    empty, damaged = faults["empty"], faults["damaged"]
    if damaged and not skip_damaged:
        those = "it" if len(damaged) == 1 else "them"
        raise UserError(
            f"{_shown(damaged, shards)}: get {those} again, or leave {those} out with --skip-damaged"
        )
    if len(empty) + len(damaged) == shards:
        raise UserError(f"no shard holds an image: {(empty or damaged)[0]}")
    if damaged:
        note(f"left out: {_shown(damaged, shards)}")
    if empty:
        note(f"left out: {_shown(empty, shards)}")


def _shown(sentences: list[str], shards: int) -> str:
    if len(sentences) == 1:
        return sentences[0]
    more = len(sentences) - _NAMED
    rest = f"; and {more:,} more" if more > 0 else ""
    return f"{len(sentences):,} of {shards:,} shards: {'; '.join(sentences[:_NAMED])}{rest}"


class ImageReader:
    """Reads the bytes of images; each process keeps at most `_OPEN_FILES` shards open."""

    def __init__(self, files: ImageFiles):
        self.files = files
        self._open = lru_cache(maxsize=_OPEN_FILES)(_Descriptor)

    def __reduce__(self):
        return ImageReader, (self.files,)

    def read(self, file: int, name: str, offset: int, size: int) -> bytes:
        """The image of one row of the index.

        Raises:
            OSError: the file is gone, or shorter than it was.
        """
        path = self.files.paths[file]
        if not self.files.are_shards:
            with open(os.path.join(path, name), "rb") as opened:
                return opened.read()
        if "://" in path:
            fs, root = fsspec.core.url_to_fs(path)
            return fs.cat_file(root, start=offset, end=offset + size)
        data = os.pread(self._open(path).number, size, offset)
        if len(data) < size:
            raise OSError(f"{path} has become shorter")
        return data

    def where(self, file: int, name: str) -> str:
        """The image's place, for messages."""
        path = self.files.paths[file]
        return f"{name} in {path}" if self.files.are_shards else os.path.join(path, name)


def decode_image(source: bytes | str | os.PathLike, orient: bool = True) -> Image.Image:
    """Decodes an image file in any format that Pillow reads, for training, evaluation and pictures.

    Args:
        source: the file's content, or its path.
        orient: turn the image as its EXIF data says; False gives it as it is stored, as a mask may lie.

    Returns:
        an image of mode RGB. Grey values of more than eight bits are scaled to eight, see `as_rgb`;
        transparent pixels are white; of an animation it is the first image.

    Raises:
        Exception: whatever Pillow raises for a file that it cannot decode.
    """
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return as_rgb(image, turn(image, orient))


def turn(image: Image.Image, orient: bool = True) -> Image.Transpose | None:
    """What remains to be done with an image after Pillow has loaded it, for `as_rgb`.

    Args:
        image: as opened, not yet loaded.
        orient: as in `decode_image`.
    """
    if image.format == "PNG":
        image.load()  # EXIF data may follow the pixels, whose damage is none of the EXIF data
    try:
        method = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data, for which Pillow raises errors of several types
        return None
    by_pillow = image.format == "TIFF"  # which Pillow turns on loading
    if by_pillow:
        return None if orient else _BACK.get(method, method)
    return method if orient else None


def as_rgb(image: Image.Image, method: Image.Transpose | None = None) -> Image.Image:
    """An opened image in RGB, turned by `method`.

    16-bit values are divided by 257. 32-bit integers and floats have no range of their own: it is the first
    of 0 to 1 (floats only), 0 to 255 and 0 to 65,535 that holds them all, else that of the values.
    Where a format marks pixels as transparent, the image is laid on white.
    """
    image.load()
    clear = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        image = _in_eight_bits(image, clear)
    elif image.has_transparency_data:
        # Pillow converts La, grey with multiplied alpha, to LA alone.
        colours = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
    if image.mode != "RGB":
        image = image.convert("RGB")  # copies an RGB image too, hence the condition
    return image if method is None else image.transpose(method)


def _in_eight_bits(image: Image.Image, clear: object) -> Image.Image:
    values = np.asarray(image)  # (H, W)
    numbers = values[np.isfinite(values)]
    low, high = 0.0, 65_535.0
    if not image.mode.startswith("I;16") and numbers.size:
        low, high = float(numbers.min()), float(numbers.max())
        known = (1, 255, 65_535) if image.mode == "F" else (255, 65_535)
        holding = [top for top in known if low >= 0 and high <= top]
        low, high = (0.0, holding[0]) if holding else (low, high)
    shares = (values.astype(np.float64) - low) / max(high - low, 1e-30)  # (H, W), of the range
    scaled = np.nan_to_num(shares.clip(0, 1), nan=0.0) * 255
    if isinstance(clear, int):
        scaled[values == clear] = 255
    return Image.fromarray(scaled.round().astype(np.uint8))


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (  # those that exchange width and height
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
# The others undo themselves.
_BACK = {
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
}


class _Descriptor:
    """A file descriptor that is closed with this object."""

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


def _stamp(path: str, is_shard: bool) -> list[object]:
    if "://" in path:
        fs, root = fsspec.core.url_to_fs(path)
        info = fs.info(root)
        return [info.get("size"), str(info.get("ETag") or info.get("LastModified"))]
    found = os.stat(path)
    if is_shard:
        return [found.st_size, found.st_mtime_ns]
    return [_names(path)]


def _build_index(files: ImageFiles, field: str | None) -> tuple[pa.Buffer, dict[str, list[str]]]:
    """The index as an Arrow stream, and sentences about empty and about damaged shards."""
    sink = pa.BufferOutputStream()
    faults: dict[str, list[str]] = {"empty": [], "damaged": []}
    with pa.ipc.new_stream(sink, INDEX) as writer:
        for number, table in enumerate(_tables(files, field)):
            if isinstance(table, UserError):
                faults["empty" if isinstance(table, EmptyShard) else "damaged"].append(str(table))
                continue
            column = pa.array([number] * len(table), pa.int32())
            writer.write_table(table.add_column(0, INDEX.field("file"), column))
    return sink.getvalue(), faults


def _tables(files: ImageFiles, field: str | None) -> Iterator[pa.Table | UserError]:
    if not files.are_shards:
        yield from map(_index_folder, files.paths)
        return
    index = partial(_index_or_fault, field=field)
    workers = min(os.cpu_count() or 1, len(files.paths) // 8)
    progress = partial(tqdm, total=len(files.paths), desc="indexing", unit="shard", disable=None)
    if workers < 2:
        yield from progress(map(index, files.paths))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from progress(pool.map(index, files.paths))


def _index_or_fault(path: str, field: str | None) -> pa.Table | UserError:
    try:
        return index_shard(path, field)
    except (EmptyShard, DamagedShard) as error:
        return error


def _index_folder(path: str) -> pa.Table:
    names = _names(path)
    columns = {
        "name": pa.array(names, pa.string()),
        "field": pa.nulls(len(names), pa.string()),
        "offset": pa.array([0] * len(names), pa.int64()),
        "size": pa.array([-1] * len(names), pa.int64()),
    }
    return pa.table(columns, schema=pa.schema([INDEX.field(name) for name in columns]))
