"""Reads images, or their kept features, with their labels in an order that depends only on the seed.

The training stream is an endless sequence of passes over the data, each in its own order. Step k of
batch size B reads the stream's places [k * B, (k + 1) * B), and each rank reads its own part of them.
So every image is read once in a pass, the number of ranks and workers changes only the speed, and the
step alone says where a resumed run continues.

Shapes: b images of one rank's micro-batch, n labelled images, N tokens of C channels.
"""

from __future__ import annotations

import itertools
import math
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from labels.reader import Labels
from training.augment import Augmentation
from training.chunked_losses import Positives
from training.features import Features
from training.images import ImageFiles, ImageReader
from training.keys import Join

SHARDS_MIXED = 16  # shards whose images are shuffled together, so that few are read at a time
TRIES = 20  # images in a row that cannot be decoded before the run stops


class Batch(NamedTuple):
    """The images of one micro-batch of one rank.

    Attributes:
        pixels: uint8 of shape (b, size, size, 3); size 0 where `frozen` stands for them.
        tokens: captions, int32 of shape (b, context length); context length 0 without a tokenizer.
        crow, cols: the images' tags as CSR, see `Positives`.
        tried: number of images that were read, b or more.
        skipped: number of images that could not be decoded and were replaced by others.
        problem: why the batch is empty, else "".
        weights: scores of the tags, see `Positives`; None unless labels are soft.
        frozen: kept tokens of the images, float16 of shape (b, N, C), see `Frozen`; None where pixels are
            to be encoded.
    """

    pixels: Tensor
    tokens: Tensor
    crow: Tensor
    cols: Tensor
    tried: int
    skipped: int
    problem: str = ""
    weights: Tensor | None = None
    frozen: Tensor | None = None

    @property
    def positives(self) -> Positives:
        return Positives(self.crow, self.cols, self.weights)


class Order:
    """The endless stream of items; an item is an integer that encodes a pass and an image.

    Args:
        images: n.
        files: int array of shape (n,): the shard of each image, ascending; None for images that are
            files of their own.
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
        """The items at places [start, stop), pass * n + image each: int64 of shape (stop - start,)."""
        items = []
        start = places.start
        while start < places.stop:
            number, at = divmod(start, self.images)
            taken = self.permutation(number)[at : at + places.stop - start]
            items.append(taken + number * self.images)
            start += len(taken)
        return np.concatenate(items)

    def permutation(self, number: int) -> np.ndarray:
        """The images in the order of one pass, int64 of shape (n,).

        Shards are shuffled, then the images of every `SHARDS_MIXED` consecutive shards together.
        """
        if self._pass[0] != number:
            rng = np.random.default_rng([self.seed, number])
            shards = [self._shards[i] for i in rng.permutation(len(self._shards))]
            mixed = []
            for first in range(0, len(shards), SHARDS_MIXED):
                some = [np.arange(*bounds) for bounds in shards[first : first + SHARDS_MIXED]]
                mixed.append(rng.permutation(np.concatenate(some)))
            self._pass = (number, np.concatenate(mixed))
        return self._pass[1]


class Labelled(Dataset):
    """What items of an `Order` have beside their images: captions and tags.

    Args:
        joined, labels: the images' labels.
        tokenizer: captions to tokens; None leaves captions out.
        soft: tags weigh as much as their scores.
    """

    def __init__(
        self,
        joined: Join,
        labels: Labels,
        tokenizer: Callable[[list[str]], Tensor] | None,
        soft: bool,
    ):
        self.joined, self.labels, self.tokenizer, self.soft = joined, labels, tokenizer, soft

    def __len__(self) -> int:
        return len(self.joined.images)

    def __getitem__(self, item: int) -> Batch:
        return self.__getitems__([item])

    def __getitems__(self, items: Sequence[int]) -> Batch:
        raise NotImplementedError

    def _batch(
        self, images: np.ndarray, pixels: Tensor, skipped: int = 0, frozen: Tensor | None = None
    ) -> Batch:
        """The batch of these of the n images, shape (b,)."""
        rows = self.joined.labels[images]
        crow, cols = self.labels.rows_torch(rows)
        weights = torch.from_numpy(self.labels.scores_of(rows)) if self.soft else None
        tokens = torch.zeros(len(images), 0, dtype=torch.int32)
        if self.tokenizer is not None:
            tokens = self.tokenizer(self.labels.captions(rows)).int()
        tried = len(images) + skipped
        return Batch(pixels, tokens, crow, cols.long(), tried, skipped, "", weights, frozen)


class LabelledFeatures(Labelled):
    """Reads items of an `Order` as a `Batch` without pixels.

    Args:
        features: of the images.
        joined, labels, tokenizer, soft: see `Labelled`.
    """

    def __init__(self, features: Features, joined: Join, labels: Labels, tokenizer, soft: bool):
        super().__init__(joined, labels, tokenizer, soft)
        self.features = features

    def __getitems__(self, items: Sequence[int]) -> Batch:
        """Reads a micro-batch; its `problem` says which file cannot be read."""
        images = np.asarray(items) % len(self)  # (b,)
        frozen = _empty((len(items), *self.features.shape), torch.float16)  # (b, N, C)
        try:
            self.features.read(self.joined.images[images], frozen.numpy())
        except OSError as error:
            return _no_batch(len(items), 0, f"features cannot be read: {error}")
        pixels = torch.empty((len(items), 0, 0, 3), dtype=torch.uint8)
        return self._batch(images, pixels, frozen=frozen)


class LabelledImages(Labelled):
    """Reads items of an `Order` as a `Batch`. The augmentation of an item depends only on seed and item.

    Args:
        index, files: the images.
        augmentation: how images are cropped.
        seed: of the augmentation.
        joined, labels, tokenizer, soft: see `Labelled`.
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
        soft: bool = False,
    ):
        super().__init__(joined, labels, tokenizer, soft)
        self.index = index
        self.reader = ImageReader(files)
        self.augmentation = augmentation
        self.seed = seed

    def __getitems__(self, items: Sequence[int]) -> Batch:
        """Reads a micro-batch; an image that cannot be decoded is replaced by a random other one."""
        size = self.augmentation.size
        pixels = _empty((len(items), size, size, 3), torch.uint8)  # (b, size, size, 3)
        squares = pixels.numpy()
        images = np.asarray(items) % len(self)  # (b,)
        locations = self._locations(images)
        skipped = 0
        for i, item in enumerate(items):
            rng, location = random.Random((self.seed << 64) + item), locations[i]
            for failures in range(1, TRIES + 1):
                try:
                    data = self.reader.read(*location)
                    squares[i] = self.augmentation(data, rng.getrandbits(64))
                    break
                except Exception as error:  # Pillow and its plugins raise exceptions of any type
                    skipped += 1
                    if failures == TRIES:
                        where = self.reader.where(*location[:2])
                        problem = f"{TRIES} images in a row cannot be decoded, the last is {where}: {error}"
                        return _no_batch(i + skipped, skipped, problem)
                images[i] = rng.randrange(len(self))
                location = self._locations(images[i : i + 1])[0]
        return self._batch(images, pixels, skipped)

    def _locations(self, images: np.ndarray) -> list[tuple[int, str, int, int]]:
        """File, name, offset and size of each image, the arguments of `ImageReader.read`."""
        rows = self.index[self.joined.images[images]]
        return list(zip(rows["file"], rows["name"], rows["offset"], rows["size"], strict=True))


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor, in a worker process in shared memory, as torch's collation does.

    What lies in private memory would be copied to shared memory when the batch is sent.
    """
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)


def _no_batch(tried: int, skipped: int, problem: str) -> Batch:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Batch(nothing, nothing, nothing, nothing, tried, skipped, problem)


@dataclass(frozen=True)
class MicroBatches:
    """The items that one rank reads in steps [first, last), a list per micro-batch.

    Attributes:
        order: the stream.
        batch_size: images of a step over all ranks.
        micro_batch: largest number of images of a micro-batch. The micro-batches of a step differ by at
            most one image, and all ranks cut in the same way.
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


def make_loader(data: Labelled, batches: MicroBatches, workers: int, pin: bool) -> DataLoader:
    """A loader of `Batch`es in the order of the micro-batches."""
    return DataLoader(
        data,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_identity,
        pin_memory=pin,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator(),  # the default would change the model's random state
    )


def _ignore_interrupts(worker: int) -> None:
    """Ignores Ctrl-C, which the terminal sends to all processes: only the trainer handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _identity(batch: Batch) -> Batch:
    return batch
