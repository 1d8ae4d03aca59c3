"""The training loop: Eq. 6 over labelled images, on one process or on as many as `torchrun` starts."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from labels.reader import Labels
from labels.vocabulary import ATTRIBUTE
from parsing.errors import UserError
from parsing.storage import Folder
from training.clip import Clip, load_clip, tag_embeddings
from training.data import (
    Batch,
    Join,
    LabelledImages,
    MicroBatches,
    Order,
    cached_join,
    make_loader,
)
from training.distributed import (
    first_rank_first,
    from_all_ranks,
    process_group,
    rank,
    sum_over_ranks,
    world_size,
)
from training.groupvit import PREFIX as GROUPVIT_PREFIX
from training.groupvit import GroupVit, load_groupvit
from training.images import find_images, open_index
from training.losses import BALANCED, WEIGHTED, images_with_tags
from training.metrics import Log, Stopwatch
from training.model import Frozen, TagAlign, frozen_tokens, normalise
from training.projector import Projector
from training.runs import (
    CHECKPOINT,
    Checkpoint,
    Origin,
    load_trained,
    random_state,
    read_checkpoint,
    save_checkpoint,
    save_settings,
    set_random_state,
)
from training.settings import REFERENCE_BATCH, Settings

MAX_SKIPPED = 0.05  # of the images looked at
ENOUGH_TRIED = 1_000  # or the whole data set, before that share means anything
BETAS, EPSILON = (0.9, 0.999), 1e-6  # the paper's release
WORK = ("encoder", "forward", "backward", "optimiser")  # what a step is for; the rest is overhead


def train(settings: Settings) -> Folder:
    """Trains, or goes on training, and leaves the run's folder behind.

    Returns:
        the folder, see `training/runs.py`.

    Raises:
        UserError: bad input, a full disk, or a signal to stop, after which the run can be resumed.
    """
    with process_group() as device:
        trainer = Trainer(settings, device)
        trainer.fit()
        return trainer.folder


def load_encoder(settings: Settings, device: torch.device | str = "cpu") -> Clip | GroupVit:
    """The encoder that the settings name.

    Raises:
        UserError: see `load_clip` and `load_groupvit`.
    """
    if settings.model.startswith(GROUPVIT_PREFIX):
        return load_groupvit(settings.model, device)
    return load_clip(settings.model, settings.weights, device, settings.quick_gelu)


def make_head(encoder: Clip | GroupVit, settings: Settings) -> nn.Module:
    """The part of the image side that learns, as it is before training."""
    if isinstance(encoder, GroupVit):
        return encoder.head()
    return Projector(encoder.visual, settings.blocks, settings.kernel)


class Trainer:
    """One rank's part of a run.

    Attributes:
        folder: the run's.
        steps: of the whole run.
        step: made so far.
        watch: seconds by phase: `waiting` (for images), `encoder`, `forward` (projector and loss),
            `backward`, `optimiser`.

    Raises:
        UserError: bad input; see `train`.
    """

    def __init__(self, settings: Settings, device: torch.device):
        self.settings, self.device = settings, device
        self.folder = Folder(settings.folder)
        self.watch = Stopwatch()
        self.step = 0
        torch.manual_seed(settings.seed)
        with first_rank_first():
            self._prepare()
        self.module = DistributedDataParallel(self.model) if world_size() > 1 else self.model
        self._totals = torch.zeros(2, dtype=torch.int64)  # images tried and skipped, all ranks
        self._stop = 0

    def _prepare(self) -> None:
        settings = self.settings
        labels = Labels(settings.labels)
        if not labels.num_tags:
            raise UserError(f"{settings.labels} has a vocabulary without tags")
        index, files, joined = self._find_images(labels)
        self._fit_batch(len(joined.images))

        self.encoder = load_encoder(settings, self.device)
        self.size = settings.size or self.encoder.image_size
        if self.size % self.encoder.patch_size:
            raise UserError(
                f"--size {self.size} is not whole patches of {self.encoder.patch_size} pixels"
            )
        self.tags = tag_embeddings(self.encoder, labels.vocabulary.tags, Folder(settings.cache)).to(
            self.device
        )
        self.model = TagAlign(
            make_head(self.encoder, settings),
            settings,
            self._frequencies(labels),
            self._groups(labels),
        ).to(self.device)
        if world_size() > 1 and self.device.type == "cuda":  # GroupViT has some
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.optimiser = make_optimiser(self.model, settings, self.batch_size)
        self.origin = Origin(
            self.encoder.name,
            self.encoder.fingerprint,
            labels.vocabulary.fingerprint,
            labels.num_tags,
            len(joined.images),
        )
        torch.manual_seed(settings.seed + 1 + rank())  # GroupViT draws noise: not the same on each
        self._resume()

        self.data = LabelledImages(
            index,
            files,
            joined,
            labels,
            settings.augmentation(self.size),
            self.encoder.tokenizer if settings.text_weight else None,
            settings.seed,
        )
        if settings.text_weight:
            labels.captions([0])  # made once, before workers look
        shards = np.asarray(index.with_format("numpy")["file"])[joined.images]
        order = Order(len(self.data), shards if files.are_shards else None, settings.seed)
        self.batches = MicroBatches(
            order,
            self.batch_size,
            settings.micro_batch,
            self.step,
            self.steps,
            rank(),
            world_size(),
        )

    def _find_images(self, labels: Labels):
        settings, cache = self.settings, Folder(self.settings.cache)
        files = find_images(settings.images)
        if files.are_shards and world_size() > len(files.paths):
            raise UserError(
                f"{world_size()} ranks are more than the {len(files.paths)} shards at "
                f"{settings.images}: start fewer, or cut the images into more shards"
            )
        index = open_index(files, settings.key_field, cache)
        joined = cached_join(index, files, labels, settings.key_field, cache)
        say(
            f"{len(joined.images):,} of {len(index):,} images have one of the {len(labels):,} rows of "
            f"labels over {labels.num_tags:,} tags"
        )
        tagged = labels.indptr[joined.labels + 1] > labels.indptr[joined.labels]
        if not tagged.any():
            raise UserError(f"none of these images has a tag: was {settings.labels} made for them?")
        if not settings.text_weight:  # there is nothing to learn from the others
            joined = Join(joined.images[tagged], joined.labels[tagged])
        return index, files, joined

    def _fit_batch(self, images: int) -> None:
        settings, world = self.settings, world_size()
        if settings.batch_size % world:
            raise UserError(f"--batch-size {settings.batch_size} cannot be shared by {world} ranks")
        if images < world:
            raise UserError(f"{images:,} labelled images cannot be shared by {world} ranks")
        self.batch_size = min(settings.batch_size, images // world * world)
        if self.batch_size < settings.batch_size:
            say(
                f"a batch of {self.batch_size:,} instead of {settings.batch_size:,}, as there are "
                f"no more images, and a learning rate that is smaller to match"
            )
        self.steps = settings.steps or math.ceil(settings.epochs * images / self.batch_size)

    def _frequencies(self, labels: Labels) -> Tensor:
        frequencies = labels.frequencies()
        if self.settings.tag_loss not in (BALANCED, WEIGHTED):
            return torch.ones_like(frequencies)
        never = (frequencies <= 0).nonzero().flatten()
        if len(never):
            raise UserError(
                f"{len(never):,} tags of {self.settings.labels} have a frequency of 0, for example "
                f"'{labels.vocabulary.tags[int(never[0])]}', which --tag-loss "
                f"{self.settings.tag_loss} cannot use"
            )
        return frequencies

    def _groups(self, labels: Labels) -> Tensor | None:
        """The group of each tag; kept on the CPU too, where images with tags are counted."""
        self._group_of, self._num_groups = None, 1
        if not self.settings.separate:
            return None
        kinds = labels.vocabulary.kinds
        self._group_of = torch.tensor([int(kind == ATTRIBUTE) for kind in kinds])
        self._num_groups = int(self._group_of.max()) + 1
        return self._group_of

    def _resume(self) -> None:
        if rank() == 0:
            self.folder.make()
        if not self.folder.exists(CHECKPOINT):
            if self.settings.resume:
                say(f"there is no checkpoint in {self.folder.url} yet: starting at step 0")
            return
        if not self.settings.resume:
            raise UserError(
                f"{self.folder.url} holds a run already: --resume goes on with it, --name starts another"
            )
        checkpoint = read_checkpoint(self.folder, self.settings, self.origin)
        if checkpoint.seen != checkpoint.step * self.batch_size:
            raise UserError(f"the checkpoint in {self.folder.url} was made with another batch size")
        load_trained(self.model, checkpoint.model, "", self.folder.path(CHECKPOINT))
        self.optimiser.load_state_dict(checkpoint.optimiser)
        if len(checkpoint.random) == world_size():
            set_random_state(checkpoint.random[rank()], self.device)
        self.step = checkpoint.step
        say(f"going on after step {self.step:,}")

    def fit(self) -> None:
        """Trains from the present step to the last.

        Raises:
            UserError: too many images cannot be decoded, the loss is no longer a number, a figure or
                checkpoint cannot be written, or the process was asked to stop.
        """
        settings = self.settings
        with contextlib.ExitStack() as stack:
            log = None
            if rank() == 0:
                stack.enter_context(self.folder.lock())
                save_settings(self.folder, settings, self.origin)
                log = Log(self.folder, self.step, settings.to_json(), settings.wandb)
                stack.callback(log.close)
            stack.enter_context(self._signals())
            loader = make_loader(
                self.data, self.batches, settings.num_workers, self.device.type == "cuda"
            )
            batches = iter(loader)
            self._since, self._since_step = time.perf_counter(), self.step
            while self.step < self.steps:
                figures = self._one_step(batches)
                self.step += 1
                last = self.step == self.steps
                if last or self.step % settings.log_every == 0:
                    self._report(figures, log)
                if last or self._stop or self.step % settings.save_every == 0:
                    self._save(figures)
                if self._stop and not last:
                    raise Stopped(self._stop, self.step, self.folder.url)

    def _one_step(self, batches) -> dict[str, Tensor]:
        with self.watch.phase("waiting"):
            parts = [next(batches) for _ in range(self.batches.parts)]
        denominators = self._count(parts)
        sums: dict[str, Tensor] = {}
        self.optimiser.zero_grad(set_to_none=True)
        for number, batch in enumerate(parts, start=1):
            with self.watch.phase("encoder"):
                frozen, texts = self._encode(batch)
            is_last = number == len(parts)
            sync = (
                contextlib.nullcontext()
                if is_last or self.module is self.model
                else self.module.no_sync()
            )
            with sync:
                with self.watch.phase("forward"), self._autocast():
                    terms = self.module(
                        frozen,
                        self.tags,
                        batch.positives.to(self.device),
                        denominators,
                        texts,
                        len(batch.pixels) / self.batches.share,
                    )
                with self.watch.phase("backward"):
                    terms.total.backward()
            for name, term in zip(("loss", "loss_tag", "loss_text"), terms, strict=True):
                sums[name] = sums.get(name, 0) + term.detach()
        with self.watch.phase("optimiser"):
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimiser.step()
        return sums | {"gradient_norm": norm}

    def _count(self, parts: list[Batch]) -> Tensor:
        """The denominators of Eq. 2 on all ranks; sums up what was skipped, and who asks to stop.

        DDP takes the mean of the ranks' gradients, so each rank divides by its part of the images.
        """
        problem = next((batch.problem for batch in parts if batch.problem), "")
        if problem:
            raise UserError(problem)
        tagged = sum(
            images_with_tags(batch.positives, self._group_of, self._num_groups) for batch in parts
        )
        others = [sum(b.tried for b in parts), sum(b.skipped for b in parts), self._stop]
        counts = sum_over_ranks(torch.cat([tagged, torch.tensor(others)]))
        self._stop = max(self._stop, int(counts[-1] > 0))
        self._totals += counts[-3:-1]
        tried, skipped = self._totals.tolist()
        if tried >= min(ENOUGH_TRIED, len(self.data)) and skipped > MAX_SKIPPED * tried:
            raise UserError(
                f"{skipped:,} of {tried:,} images could not be decoded, which is more than "
                f"{MAX_SKIPPED:.0%}: look at the files at {self.settings.images}"
            )
        return counts[:-3].to(self.device) / world_size()

    def _encode(self, batch: Batch) -> tuple[Frozen, Tensor]:
        pixels = batch.pixels.to(self.device, non_blocking=True)
        images = normalise(pixels, self.encoder.mean, self.encoder.std)
        with self._autocast():
            if isinstance(self.encoder, GroupVit):
                frozen = Frozen(images, (0, 0))
            else:
                frozen = frozen_tokens(self.encoder, images, self.settings)
            texts = images.new_zeros(len(images), 0)
            if self.settings.text_weight:
                tokens = batch.tokens.to(self.device, non_blocking=True)
                texts = self.encoder.encode_tokens(tokens)
        return frozen, texts

    def _autocast(self):
        wanted = self.settings.precision
        enabled = wanted == "bf16" or (wanted == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _report(self, figures: dict[str, Tensor], log: Log | None) -> None:
        values = {name: float(value) for name, value in self._mean(figures).items()}
        if self.settings.tag_weight == 0:
            del values["loss_tag"]
        if self.settings.text_weight == 0:
            del values["loss_text"]
        values |= {f"T_{k}": float(t) for k, t in self.model.temperatures().items()}
        now, seconds = time.perf_counter(), self.watch.take()
        passed, steps = now - self._since, self.step - self._since_step
        self._since, self._since_step = now, self.step
        tried, skipped = self._totals.tolist()
        values |= {
            "lr": self.optimiser.param_groups[0]["lr"],
            "images/s": steps * self.batch_size / passed,
            "waiting": seconds.get("waiting", 0) / passed,
            "overhead": 1 - sum(seconds.get(phase, 0) for phase in WORK) / passed,
            "epoch": self.step * self.batch_size / len(self.data),
            "skipped": skipped / max(tried, 1),
            "seconds_left": (self.steps - self.step) * passed / steps,
        }
        if log is not None:
            log.write(self.step, values, self.steps)

    def _mean(self, figures: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses' means over ranks; the gradient is the same on all of them."""
        return {
            name: sum_over_ranks(value.detach().clone()) / world_size()
            for name, value in figures.items()
        }

    def _save(self, figures: dict[str, Tensor]) -> None:
        if not all(value.isfinite() for value in self._mean(figures).values()):
            raise UserError(
                f"the loss is no longer a number at step {self.step:,}: the last checkpoint stays; "
                "try a lower --lr"
            )
        states = from_all_ranks(random_state(self.device))
        if rank() == 0:
            checkpoint = Checkpoint(
                self.step,
                self.step * self.batch_size,
                self.model.state_dict(),
                self.optimiser.state_dict(),
                states,
            )
            save_checkpoint(self.folder, checkpoint, self.settings, self.origin)

    @contextlib.contextmanager
    def _signals(self):
        """SIGTERM and Ctrl-C end the run after the present step, with a checkpoint."""

        def ask(number: int, frame: Any) -> None:
            self._stop = 1

        before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Stopped(UserError):
    """The run was asked to stop, and saved a checkpoint first."""

    def __init__(self, stop: int, step: int, folder: str):
        super().__init__(
            f"stopped after step {step:,}, which is saved in {folder}: go on with --resume"
        )


def make_optimiser(model: nn.Module, settings: Settings, batch_size: int) -> torch.optim.AdamW:
    """AdamW with a constant rate; weight decay for matrices and convolutions alone."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    lr = settings.lr * batch_size / REFERENCE_BATCH
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, eps=EPSILON, fused=True)


def say(sentence: str) -> None:
    """Prints on the first rank."""
    if rank() == 0:
        print(sentence, flush=True)
