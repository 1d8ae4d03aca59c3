"""The training loop: Eq. 6 over labelled images, in one process or in those that `torchrun` starts.

A batch that does not fit into memory is cut into micro-batches and still has the gradient of the whole
batch (GradCache, arXiv 2101.06983): first all features are computed without a graph, then the loss over
all of them and its gradient by the features, then each micro-batch's features again, with a graph, to
backpropagate these gradients. The contrastive loss has the negatives of the whole batch, and the size of
micro-batches changes only the speed.

Shapes: B images of this rank's batch, b images of a micro-batch, N patches, C channels of the encoder,
D joint width, T tags, G softmaxes.
"""

from __future__ import annotations

import contextlib
import math
import time

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common.errors import UserError
from common.storage import Folder
from training.chunked_losses import Positives
from training.data import Batch, MicroBatches, make_loader
from training.distributed import (
    first_rank_first,
    from_all_ranks,
    from_first_rank,
    process_group,
    rank,
    sum_over_ranks,
    world_size,
)
from training.losses import images_with_tags
from training.metrics import Log, Stopwatch
from training.model import Frozen, Terms, frozen_tokens, mean_and_std, normalise
from training.runs import (
    CHECKPOINT,
    Checkpoint,
    checkpoint_step,
    load_trained,
    random_state,
    read_checkpoint,
    save_checkpoint,
    save_settings,
    set_random_state,
)
from training.settings import TAGGED, Settings
from training.setup import check_ranks_agree, make_optimiser, prepare, say
from training.stopping import NotANumber, NumberWatch, Stopped, StopSignals

MAX_SKIPPED = 0.05  # share of images that cannot be decoded
MIN_TRIED = 1_000  # images, or the whole data set, before that share is checked
WORK = ("encoder", "projector", "loss", "backward", "optimiser")  # the rest of a step is overhead


def train(settings: Settings) -> Folder:
    """Trains a run from its beginning or from its checkpoint.

    Returns:
        the run's folder, see `training/runs.py`.

    Raises:
        UserError: bad input, a full disk, or a signal to stop, after which the run can be resumed.
    """
    with process_group() as device:
        trainer = Trainer(settings, device)
        trainer.fit()
        return trainer.folder


class Trainer:
    """One rank's part of a run.

    Attributes:
        setup: models, tags, data.
        folder: the run's.
        step: number of steps made.
        watch: seconds by phase: `waiting` (for images), those of `WORK`, and `saving`.

    Raises:
        UserError: bad input; see `train`.
    """

    def __init__(self, settings: Settings, device: torch.device):
        self.settings, self.device = settings, device
        self.folder = Folder(settings.folder)
        self.watch = Stopwatch()
        self.step = 0
        with first_rank_first():
            self.setup = prepare(settings, device)
            self.model = self.setup.model
            self.optimiser = make_optimiser(self.model, settings, self.setup.batch_size)
            torch.manual_seed(settings.seed + 1 + rank())  # each rank has its own noise
        check_ranks_agree(settings, self.setup)
        self._resume()
        if settings.tf32:
            torch.set_float32_matmul_precision("high")
        if settings.channels_last:
            self.model.head.to(memory_format=torch.channels_last)
        self.head = self.model.head
        if world_size() > 1:
            self.head = DistributedDataParallel(self.head)
        compiled = torch.compile if settings.compile else lambda function: function
        self._run_head, self._run_encoder = compiled(self.head), compiled(frozen_tokens)
        self.batches = MicroBatches(
            self.setup.order,
            self.setup.batch_size,
            min(from_all_ranks(self.setup.micro_batch)),  # all ranks cut in the same way
            self.step,
            self.setup.steps,
            rank(),
            world_size(),
        )
        self._totals = torch.zeros(2, dtype=torch.int64)  # images tried and skipped, all ranks
        self._signals, self._numbers = StopSignals(), NumberWatch()
        self._stopping = False  # what all ranks know

    def _resume(self) -> None:
        if rank() == 0:
            self.folder.make()
        # The folder may lie on each node's own disk, where the first rank alone writes checkpoints.
        steps = from_all_ranks(checkpoint_step(self.folder))
        newest = max(steps)
        if newest < 0:
            if self.settings.resume:
                say(f"there is no checkpoint in {self.folder.url} yet: starting at step 0")
            return
        if not self.settings.resume:
            raise UserError(
                f"{self.folder.url} holds a run already: --resume goes on with it, --name starts another"
            )
        if steps[0] < newest:
            mine = f"one of step {steps[0]:,}" if steps[0] >= 0 else "none"
            raise UserError(
                f"rank {steps.index(newest)} has a checkpoint of step {newest:,} in {self.folder.url}, "
                f"and the first rank has {mine}: copy the newest to the first rank's disk"
            )
        read = (
            read_checkpoint(self.folder, self.settings, self.setup.origin) if rank() == 0 else None
        )
        checkpoint = from_first_rank(read)
        if checkpoint.seen != checkpoint.step * self.setup.batch_size:
            raise UserError(f"the checkpoint in {self.folder.url} was made with another batch size")
        load_trained(self.model, checkpoint.model, "", self.folder.path(CHECKPOINT))
        self.optimiser.load_state_dict(checkpoint.optimiser)
        if len(checkpoint.random) == world_size():
            set_random_state(checkpoint.random[rank()], self.device)
        self.step = checkpoint.step
        say(f"going on after step {self.step:,}")

    def fit(self) -> None:
        """Trains from the current step to the last.

        Raises:
            UserError: too many images cannot be decoded, the loss is not finite, metrics or a
                checkpoint cannot be written, or the process was asked to stop.
        """
        settings = self.settings
        with contextlib.ExitStack() as stack:
            log = None
            if rank() == 0:
                stack.enter_context(self.folder.lock())
                save_settings(self.folder, settings, self.setup.origin)
                log = Log(self.folder, self.step, settings.to_json(), settings.wandb)
                stack.callback(log.close)
            stack.enter_context(self._signals.noted())
            loader = make_loader(
                self.setup.data, self.batches, settings.num_workers, self.device.type == "cuda"
            )
            batches = iter(loader)
            self._since, self._since_step = time.perf_counter(), self.step
            while self.step < self.setup.steps:
                figures = self._one_step(batches)
                self.step += 1
                self._numbers.see(self.step, [figures["loss"], figures["gradient_norm"]])
                last = self.step == self.setup.steps
                if world_size() == 1:  # several ranks learn of it together, in the next step
                    self._stopping = self._signals.came
                if last or self.step % settings.log_every == 0:
                    self._report(figures, log)
                if last or self._stopping or self.step % settings.save_every == 0:
                    self._save(figures)
                if self._stopping and not last:
                    raise Stopped(self.step, self.folder.url)

    def _one_step(self, batches) -> dict[str, Tensor]:
        with self.watch.phase("waiting"):
            parts = [next(batches) for _ in range(self.batches.parts)]
        denominators = self._count(parts)
        self.optimiser.zero_grad(set_to_none=True)
        if len(parts) == 1:
            frozen, texts = self._encode(parts[0])
            features = self._features(frozen)
            terms = self._loss(features, parts, denominators, texts)
            with self.watch.phase("backward"):
                terms.total.backward()
        else:
            terms = self._backward_in_parts(parts, denominators)
        with self.watch.phase("optimiser"):
            self._share_temperatures()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimiser.step()
        names = ("loss", "loss_tag", "loss_text")
        return dict(zip(names, terms, strict=True)) | {"gradient_norm": norm}

    def _backward_in_parts(self, parts: list[Batch], denominators: Tensor) -> Terms:
        """Computes the step's gradient with the graph of one micro-batch at a time."""
        encoded, random_states, features = [], [], []
        for part in parts:
            encoded.append(self._encode(part))
            random_states.append(random_state(self.device))
            with torch.no_grad():
                features.append(self._features(encoded[-1][0]))  # (b, D)
        batch_features = torch.cat(features).requires_grad_()  # (B, D)
        texts = torch.cat([texts for _, texts in encoded])  # (B, D)
        terms = self._loss(batch_features, parts, denominators, texts)
        with self.watch.phase("backward"):
            terms.total.backward()
        gradients = batch_features.grad.split([len(f) for f in features])  # (b, D) each
        for number, (frozen, _) in enumerate(encoded):
            set_random_state(random_states[number], self.device)  # the same noise as the first time
            is_last = number + 1 == len(parts)
            is_single = world_size() == 1  # without DDP there is nothing to synchronise
            with contextlib.nullcontext() if is_last or is_single else self.head.no_sync():
                again = self._features(frozen)  # (b, D)
                with self.watch.phase("backward"):
                    again.backward(gradients[number])
        return terms

    def _features(self, frozen: Frozen) -> Tensor:
        """The average-pooled image features, float32 of shape (b, D)."""
        with self.watch.phase("projector"), self._autocast():
            return self._run_head(*frozen).float().mean(dim=1)  # of (b, N, D)

    def _loss(
        self, features: Tensor, parts: list[Batch], denominators: Tensor, texts: Tensor
    ) -> Terms:
        with self.watch.phase("loss"):
            positives = Positives.joined([part.positives for part in parts])
            return self.model.objective(features, self.setup.tags, positives, denominators, texts)

    def _share_temperatures(self) -> None:
        """Averages the temperatures' gradients over ranks, as they are not part of DDP's module."""
        gradients = [p.grad for p in self.model.objective.parameters()]
        mean = sum_over_ranks(torch.stack(gradients)) / world_size()
        for gradient, value in zip(gradients, mean, strict=True):
            gradient.copy_(value)

    def _count(self, parts: list[Batch]) -> Tensor:
        """The denominators of Eq. 2, float of shape (G,); and what else all ranks must know.

        They are the counts over all ranks divided by the number of ranks, as DDP averages gradients.

        Raises:
            UserError: a rank cannot read its images, or has seen a loss that is no number.
        """
        problem = next((batch.problem for batch in parts if batch.problem), "")
        if problem:
            raise UserError(problem)
        if self.settings.mean_over == TAGGED:
            tagged = sum(  # (G,)
                images_with_tags(batch.positives, self.setup.group_of, self.setup.num_groups)
                for batch in parts
            )
        else:
            tagged = torch.full((self.setup.num_groups,), sum(len(b.pixels) for b in parts))
        broken = self._numbers.found()
        others = [
            sum(b.tried for b in parts),
            sum(b.skipped for b in parts),
            int(self._signals.came),
            int(broken > 0),
        ]
        # float64, as the images of soft labels are no whole number
        counts = torch.cat([tagged.double(), torch.tensor(others).double()])  # (G + 4,)
        sum_over_ranks(counts)
        self._stopping = bool(counts[-2] > 0)
        if counts[-1] > 0:
            raise NotANumber(broken or self.step)
        self._totals += counts[-4:-2].long()
        tried, skipped = self._totals.tolist()
        if tried >= min(MIN_TRIED, len(self.setup.data)) and skipped > MAX_SKIPPED * tried:
            raise UserError(
                f"{skipped:,} of {tried:,} images could not be decoded, which is more than "
                f"{MAX_SKIPPED:.0%}: look at the files at {self.settings.images}"
            )
        return counts[:-4].float().to(self.device, non_blocking=True) / world_size()

    def _encode(self, batch: Batch) -> tuple[Frozen, Tensor]:
        """The head's input, (b, N, C), and the captions' embeddings, (b, D), or (b, 0) without."""
        with self.watch.phase("encoder"), self._autocast():
            encoder = self.setup.encoder
            if batch.frozen is not None:
                tokens = batch.frozen.to(self.device, non_blocking=True).float()  # (b, N, C)
                side = math.isqrt(tokens.shape[1])  # images are square
                frozen = Frozen(tokens, (side, side))
            else:
                pixels = batch.pixels.to(self.device, non_blocking=True)  # (b, size, size, 3)
                mean, std = mean_and_std(encoder, self.settings.normalisation)
                frozen = self._run_encoder(encoder, normalise(pixels, mean, std), self.settings)
            texts = torch.zeros(len(batch.pixels), 0, device=self.device)
            if self.settings.text_weight:
                texts = encoder.encode_tokens(batch.tokens.to(self.device, non_blocking=True))
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
        values |= {f"T_{k}": float(t) for k, t in self.model.objective.temperatures().items()}
        now, seconds = time.perf_counter(), self.watch.take()
        passed, steps = now - self._since, self.step - self._since_step
        self._since, self._since_step = now, self.step
        tried, skipped = self._totals.tolist()
        values |= {
            "lr": self.optimiser.param_groups[0]["lr"],
            "images/s": steps * self.setup.batch_size / passed,
            "waiting": seconds.get("waiting", 0) / passed,
            "overhead": 1 - sum(seconds.get(phase, 0) for phase in WORK) / passed,
            "epoch": self.step * self.setup.batch_size / len(self.setup.data),
            "skipped": skipped / max(tried, 1),
            "seconds_left": (self.setup.steps - self.step) * passed / steps,
        }
        if log is not None:
            log.write(self.step, values, self.setup.steps)

    def _mean(self, figures: dict[str, Tensor]) -> dict[str, Tensor]:
        """The means over ranks; the gradient norm is the same on all of them."""
        return {
            name: sum_over_ranks(value.detach().clone()) / world_size()
            for name, value in figures.items()
        }

    def _save(self, figures: dict[str, Tensor]) -> None:
        if not all(value.isfinite() for value in self._mean(figures).values()):
            raise NotANumber(self.step)
        states = from_all_ranks(random_state(self.device))
        if rank() == 0:
            checkpoint = Checkpoint(
                self.step,
                self.step * self.setup.batch_size,
                self.model.state_dict(),
                self.optimiser.state_dict(),
                states,
            )
            save_checkpoint(self.folder, checkpoint, self.settings, self.setup.origin)
