"""Images joined with their labels by key, in an order that depends on the seed alone.

The training stream is one endless sequence of passes over the data, each in its own order. Step k of
batch size B takes the stream's places [k * B, (k + 1) * B), and of those each rank its own part. So no
image is read twice in a pass or lost between ranks, how many ranks and workers there are changes
nothing but speed, and where to go on after a break follows from the step.
"""

from __future__ import annotations

import io
import itertools
import math
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from labels.reader import Labels
from parsing.errors import UserError
from parsing.storage import Folder
from training.augment import Augmentation
from training.images import NAMINGS, ImageFiles, ImageReader, keys_by
from training.tag_scores import Positives

SHARDS_MIXED = 16  # shards whose images are shuffled together: what a rank reads from at one time
TRIES = 20  # images in a row that cannot be decoded before a worker gives up
_ROWS = 65_536


class Batch(NamedTuple):
    """One rank's images of one micro-batch, b of them.

    Attributes:
        pixels: uint8 of shape (b, size, size, 3).
        tokens: captions, int32 of shape (b, context length); context length 0 without a tokenizer.
        crow, cols: the images' tags as CSR, see `Positives`.
        tried: images that were looked at, b or more.
        skipped: those of them that could not be decoded; others took their places.
        problem: why there is no batch here, else "".
    """

    pixels: Tensor
    tokens: Tensor
    crow: Tensor
    cols: Tensor
    tried: int
    skipped: int
    problem: str = ""

    @property
    def positives(self) -> Positives:
        return Positives(self.crow, self.cols)


class Join(NamedTuple):
    """Which image has which labels: n pairs, several of one image where its key has several captions.

    Attributes:
        images: int64 of shape (n,): rows of the index, ascending.
        labels: int64 of shape (n,): their rows of the label file.
    """

    images: np.ndarray
    labels: np.ndarray


def join(index, files: ImageFiles, labels: Labels, field: str | None = None) -> Join:
    """Finds each image's labels by its key.

    A label file may call an image by its path, its file name, or either without its ending; the
    naming under which most of the first images have labels is taken for all.

    Args:
        index: as `open_index` gives it.
        files: what was indexed.
        labels: the label file.
        field: join by this field of each image's .json instead.

    Raises:
        UserError: no image has a label.
    """
    arrow = index.with_format("arrow")
    naming, images, rows = None, [], []
    for start in range(0, len(index), _ROWS):
        part = arrow[start : start + _ROWS]
        if field is not None:
            which, positions = labels.matches([key or "" for key in part["field"].to_pylist()])
        else:
            owners, names = part["file"].to_pylist(), part["name"].to_pylist()
            tried = NAMINGS if naming is None else (naming,)
            found = {n: labels.matches(keys_by(n, files, owners, names)) for n in tried}
            best = max(found, key=lambda n: len(np.unique(found[n][0])))
            which, positions = found[best]
            naming = best if len(which) else naming
        images.append(start + which)
        rows.append(positions)
    joined = Join(*(np.concatenate([np.empty(0, np.int64), *parts]) for parts in (images, rows)))
    if not len(joined.images):
        ours = index[0]["field" if field else "name"] if len(index) else "nothing"
        theirs = labels.keys([0])[0] if len(labels) else "nothing"
        raise UserError(
            f"0 of the {len(index):,} images at {files.paths[0]} have one of the {len(labels):,} "
            f"keys of {labels.path}: an image is called '{ours}', a key '{theirs}' (see --key-field)"
        )
    return joined


def cached_join(index, files: ImageFiles, labels: Labels, field: str | None, cache: Folder) -> Join:
    """As `join`, kept in a local cache, of which all ranks map one copy."""
    about = labels.path.stat()
    parts = (
        index.cache_files[0]["filename"],
        labels.path.resolve(),
        about.st_mtime_ns,
        about.st_size,
    )
    digest = xxhash.xxh3_128_hexdigest("|".join(map(str, (*parts, field))).encode())
    name = f"pairs-{digest}.npy"
    if not cache.exists(name):
        buffer = io.BytesIO()
        np.save(buffer, np.stack(join(index, files, labels, field)))
        cache.write(name, buffer.getbuffer())
    return Join(*np.load(cache.path(name), mmap_mode="r"))


class Order:
    """The endless stream: each place holds an item, a number that says which image in which pass.

    Args:
        files: int array of shape (n,): the shard of each image, ascending; None where images are
            files of their own.
        images: n.
        seed: of the order.
    """

    def __init__(self, images: int, files: np.ndarray | None, seed: int):
        self.images = images
        self.seed = seed
        bounds = [0, images]
        if files is not None:
            bounds = np.flatnonzero(np.diff(files, prepend=-1, append=np.iinfo(np.int32).max))
        self._shards = list(itertools.pairwise(bounds))
        self._pass = (-1, np.empty(0, dtype=np.int64))

    def __getitem__(self, places: slice) -> np.ndarray:
        """Items at places [start, stop): int64, the pass times the number of images plus the image."""
        items = []
        start = places.start
        while start < places.stop:
            number, at = divmod(start, self.images)
            taken = self.permutation(number)[at : at + places.stop - start]
            items.append(taken + number * self.images)
            start += len(taken)
        return np.concatenate(items)

    def permutation(self, number: int) -> np.ndarray:
        """All images once, int64 of shape (n,): shards shuffled, then images among a few shards."""
        if self._pass[0] != number:
            draw = np.random.default_rng([self.seed, number])
            shards = [self._shards[i] for i in draw.permutation(len(self._shards))]
            mixed = []
            for first in range(0, len(shards), SHARDS_MIXED):
                some = [np.arange(*bounds) for bounds in shards[first : first + SHARDS_MIXED]]
                mixed.append(draw.permutation(np.concatenate(some)))
            self._pass = (number, np.concatenate(mixed))
        return self._pass[1]


class LabelledImages(Dataset):
    """Items of an `Order` to `Batch`es; all that is random about an item follows from its number.

    Args:
        index, files, joined, labels: the images and their labels.
        augmentation: what is cut out of each image.
        tokenizer: captions to tokens; None leaves captions out.
        seed: of the augmentation.
    """

    def __init__(
        self,
        index,
        files: ImageFiles,
        joined: Join,
        labels: Labels,
        augmentation: Augmentation,
        tokenizer: Callable[[list[str]], Tensor] | None,
        seed: int,
    ):
        self.index = index
        self.reader = ImageReader(files)
        self.joined = joined
        self.labels = labels
        self.augmentation = augmentation
        self.tokenizer = tokenizer
        self.seed = seed

    def __len__(self) -> int:
        return len(self.joined.images)

    def __getitem__(self, item: int) -> Batch:
        return self.__getitems__([item])

    def __getitems__(self, items: Sequence[int]) -> Batch:
        """Reads a micro-batch. A file that cannot be decoded gives its place to another image."""
        size = self.augmentation.size
        pixels = _empty_pixels((len(items), size, size, 3))
        squares = pixels.numpy()
        images = np.asarray(items) % len(self)
        places = self._places(images)
        skipped = 0
        for i, item in enumerate(items):
            draw, place = random.Random((self.seed << 64) + item), places[i]
            for failures in range(1, TRIES + 1):
                try:
                    data = self.reader.read(*place)
                    squares[i] = self.augmentation(data, draw.getrandbits(64))
                    break
                except Exception as error:  # Pillow and its plugins raise of every kind
                    skipped += 1
                    if failures == TRIES:
                        where = self.reader.where(*place[:2])
                        problem = f"{TRIES} images in a row cannot be decoded, the last is {where}: {error}"
                        return _no_batch(i + skipped, skipped, problem)
                images[i] = draw.randrange(len(self))
                place = self._places(images[i : i + 1])[0]
        crow, cols = self.labels.rows_torch(self.joined.labels[images])
        tried = len(items) + skipped
        return Batch(pixels, self._tokens(images), crow, cols.long(), tried, skipped)

    def _places(self, images: np.ndarray) -> list[tuple[int, str, int, int]]:
        rows = self.index[self.joined.images[images]]
        return list(zip(rows["file"], rows["name"], rows["offset"], rows["size"], strict=True))

    def _tokens(self, images: np.ndarray) -> Tensor:
        if self.tokenizer is None:
            return torch.zeros(len(images), 0, dtype=torch.int32)
        return self.tokenizer(self.labels.captions(self.joined.labels[images])).int()


def _empty_pixels(shape: tuple[int, ...]) -> Tensor:
    """uint8; in a worker in shared memory from the start, as torch's own collation does it.

    Else all pixels would be copied there when the batch is sent.
    """
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def _no_batch(tried: int, skipped: int, problem: str) -> Batch:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Batch(nothing, nothing, nothing, nothing, tried, skipped, problem)


@dataclass(frozen=True)
class MicroBatches:
    """Which items one rank reads, micro-batch by micro-batch, from step `first` to before `last`.

    Attributes:
        order: the stream.
        batch_size: images of a step on all ranks together.
        micro_batch: images that a rank puts through the model at once, at most; parts are equal
            to within one image, and the same on every rank.
        first, last: steps.
        rank, world: of this process.
    """

    order: Order
    batch_size: int
    micro_batch: int
    first: int
    last: int
    rank: int = 0
    world: int = 1

    @property
    def share(self) -> int:
        """Images of a step on one rank."""
        return self.batch_size // self.world

    @property
    def parts(self) -> int:
        """Micro-batches of a step on one rank."""
        return -(-self.share // self.micro_batch)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.last):
            start = step * self.batch_size + self.rank * self.share
            bounds = [start + self.share * part // self.parts for part in range(self.parts + 1)]
            for begin, end in itertools.pairwise(bounds):
                yield self.order[begin:end].tolist()

    def __len__(self) -> int:
        return (self.last - self.first) * self.parts


def make_loader(data: LabelledImages, batches: MicroBatches, workers: int, pin: bool) -> DataLoader:
    """A loader of `Batch`es in the order of the micro-batches."""
    return DataLoader(
        data,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_same,
        pin_memory=pin,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator(),  # else it would draw from the model's own random state
    )


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the trainer alone decides what follows from it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _same(batch: Batch) -> Batch:
    return batch
