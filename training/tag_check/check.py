"""Runs a check, or continues one that was stopped: statistics, chunks, then the label file."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as write_safetensors

from common.errors import UserError
from common.storage import Folder
from labels.label_file import read_check
from labels.reader import Labels
from training.clip import load_clip
from training.distributed import first_rank_first, from_all_ranks, process_group, rank, world_size
from training.features import About, FeatureFolder, Kind, Source, digest
from training.images import find_images, open_index
from training.keys import Join, cached_join
from training.setup import say
from training.tag_check import binding, evidence, measure, parts, pictures, texts
from training.tag_check.checked_file import Counts, Model, score_all, threshold_of, write_checked
from training.tag_check.evidence import Statistics, Sums
from training.tag_check.measure import Looker, Measure, not_judged
from training.tag_check.parts import Part, Parts
from training.tag_check.pictures import PictureFiles
from training.tag_check.settings import PHRASES, Keep, Settings
from training.tag_check.texts import Texts, make_texts

MANIFEST, STATISTICS = "check.json", "statistics.safetensors"
# Settings that the measurements depend on.
FIXED = (
    "path",
    "depth",
    "evidence",
    "pool",
    "attributes",
    "sample",
    "size",
    "normalisation",
    "chunk",
    "seed",
    "key_field",
)

# The files that make the measurements.
CODE = tuple(Path(one.__file__) for one in (binding, evidence, measure, parts, pictures, texts))


@dataclass(frozen=True)
class Checked:
    """What a check gives.

    Attributes:
        counts: what became of the tags.
        model: how evidence became scores.
        check: the check, for its page.
    """

    counts: Counts
    model: Model
    check: Check


def check_tags(settings: Settings) -> Checked | None:
    """Checks the tags of a label file.

    Returns:
        None on all ranks but the first.

    Raises:
        UserError: bad input, another check's folder, or no room.
    """
    with process_group() as device:
        check = Check(settings, device)
        check.measure()
        return check.decide() if rank() == 0 else None


class Check:
    """One rank's part of a check.

    Args:
        settings: what to do.
        device: where the encoder runs.

    Raises:
        UserError: bad input; see `check_tags`.
    """

    def __init__(self, settings: Settings, device: torch.device):
        self.settings, self.device = settings, device
        earlier = read_check(settings.labels)
        if earlier is not None:
            raise UserError(
                f"the tags of {settings.labels} were checked already: check the file that it was made "
                f"from, {earlier.get('labels', 'which has no scores')}"
            )
        self.folder = Folder(settings.work)
        self.seconds = dict.fromkeys(("loading", "encoder", "evidence"), 0.0)
        with first_rank_first():
            self.labels = Labels(settings.labels)
            if not len(self.labels.indices):
                raise UserError(f"{settings.labels} has no tags to check")
            self.files = find_images(settings.images)
            cache = Folder(settings.cache)
            self.index = open_index(self.files, settings.key_field, cache)
            self.joined = cached_join(
                self.index, self.files, self.labels, settings.key_field, cache
            )
            self.labels.captions([0])  # writes their sidecar now, and not in every rank
            self.clip = load_clip(settings.model, settings.weights, device, settings.quick_gelu)
            size = settings.size or self.clip.image_size
            if size % self.clip.patch_size:
                raise UserError(
                    f"--size {size} is not whole patches of {self.clip.patch_size} pixels"
                )
            self.images, self.bounds = _by_image(self.joined)
            pictures_digest = digest(self.index, self.images)
            self._begin(pictures_digest)
            self.features = self._features(pictures_digest, size) if settings.features else None
            say(
                f"{len(self.images):,} of {len(self.index):,} images have one of the "
                f"{len(self.labels):,} rows of labels"
            )
            rng = np.random.default_rng(settings.seed)
            count = min(settings.sample, len(self.images))
            self.sample = np.sort(rng.choice(len(self.images), count, replace=False))
            self.texts = self._texts(cache)
        self.pictures = PictureFiles(self.index, self.files, size)
        self.looker = Looker(
            self.clip, settings.image_path, device.type == "cuda", settings.normalisation
        )
        self.parts = Parts(self.folder)

    @property
    def chunks(self) -> int:
        return -(-len(self.images) // self.settings.chunk)

    def _begin(self, pictures: str) -> None:
        """Writes what the measurements depend on, or compares it with what an earlier start wrote.

        Args:
            pictures: see `digest`.
        """
        settings = self.settings
        wanted = {
            "labels": settings.labels,
            "labels_digest": self.labels._identity,
            "model": self.clip.name,
            "model_fingerprint": self.clip.fingerprint,
            "images": pictures,
            "code": xxhash.xxh3_128_hexdigest(b"".join(file.read_bytes() for file in CODE)),
        } | {name: getattr(settings, name) for name in FIXED}
        self.about = wanted
        if rank() > 0:
            return
        self.folder.make()
        if not self.folder.exists(MANIFEST):
            self.folder.write_json(MANIFEST, wanted)
            return
        found = self.folder.read_json(MANIFEST)
        for name, value in wanted.items():
            if name in ("labels", "model"):  # their content is compared, as they may have moved
                continue
            if found.get(name) != value:
                if name == "code":
                    raise UserError(
                        f"{self.folder.url} was measured by another version of this program: "
                        "remove it, or name another --out"
                    )
                shown = {"model_fingerprint": "model", "labels_digest": "labels"}.get(name, name)
                what = f" ({found.get(shown)})" if found.get(shown) != wanted.get(shown) else ""
                raise UserError(
                    f"{self.folder.url} was measured with another --{shown.replace('_', '-')}{what}: "
                    "remove it, or name another --out"
                )
        say(f"going on with what was measured in {self.folder.url}")

    def _features(self, pictures: str, size: int) -> FeatureFolder:
        settings = self.settings
        kind = Kind.of(self.clip, settings.image_path, size, settings.normalisation)
        source = Source(
            pictures, self.chunks, settings.chunk, settings.key_field,
            list(self.files.paths), self.files.are_shards,
        )  # fmt: skip
        return FeatureFolder.begin(settings.features, About(kind, source))

    def _texts(self, cache: Folder) -> Texts:
        rows = np.zeros(0, np.int64)  # without phrases no caption needs to be read
        if self.settings.attributes == PHRASES:
            rows = np.concatenate([self._rows(one) for one in self.sample])
        return make_texts(self.clip, self.labels, rows, cache)

    def _rows(self, image: int) -> np.ndarray:
        """The rows of the label file that belong to one of `images`."""
        return self.joined.labels[self.bounds[image] : self.bounds[image + 1]]

    def measure(self) -> None:
        """Makes the statistics and the missing parts.

        Raises:
            UserError: no picture can be decoded, or there is no room.
        """
        missing = [chunk for chunk in range(self.chunks) if not self.parts.has(chunk)]
        if self.features is not None:
            missing = sorted({*missing, *self.features.missing()})
        # The first rank's view, as another rank may look when the first has begun to write.
        missing, fitted = from_all_ranks((missing, self.folder.exists(STATISTICS)))[0]
        if missing:
            if self.features is not None and rank() == 0:
                self.features.reopen()
            measure = Measure(
                self.labels, self.texts, self._statistics(fitted), self.device,
                self.settings.evidence, self.settings.pool, self.settings.seed,
            )  # fmt: skip
            for number, chunk in enumerate(missing[rank() :: world_size()]):
                self._measure_chunk(chunk, measure)
                done = min((number + 1) * world_size(), len(missing))
                say(
                    f"measured {done:,} of {len(missing):,} chunks of {self.settings.chunk:,} images"
                )
        from_all_ranks(None)  # waits until all parts are there
        if self.features is not None and rank() == 0:
            self.features.finish(self.index)

    def _statistics(self, fitted: bool) -> Statistics:
        """Reads them, or makes them of the sample.

        Args:
            fitted: whether they are there.
        """
        if fitted:
            try:
                return Statistics(**read_safetensors(self.folder.read(STATISTICS)))
            except (SafetensorError, TypeError):
                say(f"the statistics in {self.folder.url} are damaged, and are made again")
        sums = Sums(self.texts.embeddings.to(self.device), self.texts.tags, self.settings.pool)
        mine = self.sample[rank() :: world_size()]
        for some in self._read(self.images[mine]):
            if not len(some.images):
                continue
            classes, patches, _ = self._encode(some.pixels)
            began = time.perf_counter()
            which, rows = self._captions(some.images)
            indptr, tags = self.labels.rows(rows)
            # A tag counts once for an image, however many captions have it.
            cells = np.repeat(which, np.diff(indptr)) * self.labels.num_tags + tags
            image, tag = np.divmod(np.unique(cells), self.labels.num_tags)
            sums.add(
                classes, patches,
                torch.from_numpy(image).to(self.device), torch.from_numpy(tag).to(self.device),
            )  # fmt: skip
            self.seconds["evidence"] += time.perf_counter() - began
        statistics = sums.statistics(self.images[self.sample])
        if not float(sums.n):
            raise UserError(
                f"none of the {len(self.sample):,} sampled images at {self.settings.images} can be decoded"
            )
        if rank() == 0:
            self.folder.write(STATISTICS, write_safetensors(statistics.tensors()))
        return statistics

    def _measure_chunk(self, chunk: int, measure: Measure) -> None:
        start = chunk * self.settings.chunk
        images = self.images[start : start + self.settings.chunk]
        found: list[Part] = []
        decoded = []
        keep = self.features.writer(chunk) if self.features else contextlib.nullcontext()
        with keep as kept:
            for some in self._read(images):
                decoded.append(some.images)
                if not len(some.images):
                    continue
                classes, patches, tokens = self._encode(some.pixels)
                began = time.perf_counter()
                which, rows = self._captions(some.images)
                found.append(measure(some.images, classes, patches, which, rows))
                self.seconds["evidence"] += time.perf_counter() - began
                if kept is not None:
                    kept.add(some.images, tokens.patches, tokens.class_token)
        broken = np.setdiff1d(images, np.concatenate(decoded))
        _, rows = self._captions(broken)
        found.append(not_judged(self.labels, rows, len(broken), len(broken)))
        self.parts.write(chunk, Part.joined(found))

    def _read(self, rows: np.ndarray):
        batches = self.pictures.batches(rows, self.settings.batch_size, self.settings.num_workers)
        began = time.perf_counter()
        for some in batches:
            self.seconds["loading"] += time.perf_counter() - began
            yield some
            began = time.perf_counter()

    def _encode(self, pixels: torch.Tensor):
        began = time.perf_counter()
        encoded = self.looker.encode(pixels)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds["encoder"] += time.perf_counter() - began
        return encoded

    def _captions(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The captions of images: which image each belongs to, and its row of labels."""
        places = np.searchsorted(self.images, images)
        rows = [self._rows(place) for place in places]
        counts = [len(one) for one in rows]
        which = np.repeat(np.arange(len(images)), counts)
        return which, np.concatenate([np.zeros(0, np.int64), *rows]).astype(np.int64)

    def decide(self) -> Checked:
        """Fits the model to what was measured, and writes the label file.

        Raises:
            UserError: a part is damaged, no tag stays, or there is no room.
        """
        model, images, broken = Model.of(self.parts, self.chunks, self.labels.num_tags)
        scores = score_all(self.labels, self.parts, self.chunks, model, self.folder)
        threshold = threshold_of(scores, Keep.read(self.settings.keep))
        about: dict[str, Any] = self.about | {
            "keep": self.settings.keep,
            "threshold": threshold,
            "broken": broken,
        }
        counts = write_checked(
            self.labels, scores, threshold, self.settings.out, about, (images, broken)
        )
        self.folder.write_json("seconds.json", {k: round(v, 2) for k, v in self.seconds.items()})
        return Checked(counts, model, self)


def _by_image(joined: Join) -> tuple[np.ndarray, np.ndarray]:
    """The images that have labels, int64 of shape (n,), and where the pairs of each begin, (n + 1,)."""
    images, first = np.unique(joined.images, return_index=True)
    return images.astype(np.int64), np.append(first, len(joined.images))


def summary(settings: Settings, counts: Counts) -> str:
    """The result of a check for a person, one fact a line."""
    every = counts.kept + counts.dropped
    lines = [
        f"{settings.out}: {counts.kept:,} of {every:,} tags stay ({counts.kept / every:.1%}), "
        f"with scores of {counts.threshold:.3g} and more",
        f"{counts.unjudged:,} tags were not judged and stay (too rare, bound to no object, or without "
        "a picture)",
    ]
    if counts.broken:
        lines.append(
            f"{counts.broken:,} of {counts.images:,} images could not be decoded: their tags stay, unjudged"
        )
    if counts.empty:
        lines.append(f"{counts.empty:,} images have no tag left, and keep their caption")
    return "\n".join(lines)
