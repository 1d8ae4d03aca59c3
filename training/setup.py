"""Loads data and models, and validates them, before the first step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.storage import Folder
from labels.reader import Labels
from labels.vocabulary import ATTRIBUTE
from training.clip import tag_embeddings
from training.data import Labelled, LabelledFeatures, LabelledImages, Order
from training.distributed import from_all_ranks, rank, world_size
from training.features import FeatureFolder, Features, Kind
from training.groupvit import GroupVit
from training.images import find_images, open_index
from training.keys import Join, cached_join
from training.losses import BALANCED, WEIGHTED
from training.model import (
    Encoder,
    Objective,
    TagAlign,
    load_encoder,
    make_head,
    mean_and_std,
)
from training.runs import Origin
from training.settings import CLASS, REFERENCE_BATCH, TAGGED, Settings

BETAS, EPSILON = (0.9, 0.999), 1e-6  # the paper's release
CPU_MEMORY = 4 << 30  # bytes for the activations of a micro-batch
GPU_SHARE = 0.7  # of the free memory, for the same
GROUPVIT_IMAGES = 256  # a micro-batch of GroupViT, all of whose image side is trained


@dataclass(frozen=True)
class Setup:
    """The models and the data of a run.

    Attributes:
        encoder: the frozen model.
        model: the trained modules.
        tags: embeddings of the T tags, float32 of shape (T, D), on the device.
        group_of: the softmax of each tag, int64 of shape (T,), on the CPU; None for a single softmax.
        data: labelled images.
        order: in which they are read.
        batch_size: images of a step over all ranks, at most the number of labelled images.
        steps: of the whole run.
        micro_batch: images that this rank can put through the model at once, see `images_that_fit`.
        origin: what a checkpoint must match to be resumed.
    """

    encoder: Encoder
    model: TagAlign
    tags: Tensor
    group_of: Tensor | None
    data: Labelled
    order: Order
    batch_size: int
    steps: int
    micro_batch: int
    origin: Origin

    @property
    def num_groups(self) -> int:
        return 1 if self.group_of is None else int(self.group_of.max()) + 1


def prepare(settings: Settings, device: torch.device) -> Setup:
    """Loads and validates everything; caches slow results for the other ranks and the next run.

    Raises:
        UserError: bad input of any kind.
    """
    labels = Labels(settings.labels)
    if not labels.num_tags:
        raise UserError(f"{settings.labels} has a vocabulary without tags")
    if settings.soft_labels and labels.scores is None:
        raise UserError(
            f"{settings.labels} has no scores for --soft-labels: training/check_tags.py gives them"
        )
    kept = FeatureFolder.open(settings.features) if settings.features is not None else None
    index, files, joined = _find(settings, labels, kept)
    batch_size = _batch_size(settings, len(joined.images))
    steps = settings.steps or math.ceil(settings.epochs * len(joined.images) / batch_size)

    encoder = load_encoder(settings, device)
    size = settings.size or encoder.image_size
    if size % encoder.patch_size:
        raise UserError(f"--size {size} is not whole patches of {encoder.patch_size} pixels")
    tags = tag_embeddings(encoder, labels.vocabulary.tags, Folder(settings.cache), settings.prompt)
    kinds = labels.vocabulary.kinds
    group_of = torch.tensor([int(k == ATTRIBUTE) for k in kinds]) if settings.separate else None
    torch.manual_seed(settings.seed)
    objective = Objective(settings, _frequencies(settings, labels), group_of)
    model = TagAlign(make_head(encoder, settings), objective).to(device)
    if world_size() > 1 and device.type == "cuda":  # GroupViT normalises over the batch
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)

    tokenizer = encoder.tokenizer if settings.text_weight else None
    data: Labelled
    if kept is not None:
        kept.refuse_other(Kind.of(encoder, settings.image_path, size, settings.normalisation))
        features = Features(kept, index, settings.pool == CLASS)
        data = LabelledFeatures(features, joined, labels, tokenizer, settings.soft_labels)
    else:
        mean, std = mean_and_std(encoder, settings.normalisation)
        augmentation = settings.augmentation(size, mean=mean, std=std)
        data = LabelledImages(
            index,
            files,
            joined,
            labels,
            augmentation,
            tokenizer,
            settings.seed,
            settings.soft_labels,
        )
    if tokenizer is not None:
        labels.captions([0])  # writes their sidecar now, and not in every worker
    shards = index.with_format("numpy")["file"][:][joined.images] if files.are_shards else None
    origin = Origin(
        encoder.name,
        encoder.fingerprint,
        labels.vocabulary.fingerprint,
        labels.num_tags,
        len(data),
    )
    return Setup(
        encoder,
        model,
        tags.to(device),
        group_of,
        data,
        Order(len(data), shards, settings.seed),
        batch_size,
        steps,
        settings.micro_batch or images_that_fit(encoder, size, settings.blocks, device),
        origin,
    )


def check_ranks_agree(settings: Settings, setup: Setup) -> None:
    """Checks that all ranks have the same flags, weights, labels and images, each from its own disk.

    Raises:
        UserError: they differ; on every rank, with the first difference.
    """
    about = asdict(setup.origin) | {"steps": setup.steps} | settings.fixed()
    del about["encoder"]  # its place may differ
    first, *others = from_all_ranks(about)
    for number, theirs in enumerate(others, start=1):
        for name, value in theirs.items():
            if value != first[name]:
                raise UserError(
                    f"rank {number} has {name.replace('_', ' ')} {value}, and the first rank "
                    f"{first[name]}: all ranks need the same flags and the same files"
                )


def images_that_fit(encoder: Encoder, size: int, blocks: int, device: torch.device) -> int:
    """How many images a micro-batch has if nobody says, by an estimate of their activations.

    A batch that is cut needs the projector's forward pass twice, so it is cut only where it must be.

    Args:
        encoder: the frozen model.
        size: side of the images, in pixels.
        blocks: of the projector.
        device: a GPU's free memory counts; a CPU's is taken to be `CPU_MEMORY`.
    """
    if isinstance(encoder, GroupVit):
        return GROUPVIT_IMAGES
    memory = CPU_MEMORY
    if device.type == "cuda":
        memory = int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    # A gated convolution keeps four arrays of the tokens' shape for its gradient; the frozen tokens, the
    # last norm and the features are six more.
    arrays = 8 * blocks + 6
    bytes_of_image = arrays * (size // encoder.patch_size) ** 2 * encoder.width * 4
    return max(memory // bytes_of_image, 1)


def make_optimiser(model: nn.Module, settings: Settings, batch_size: int) -> torch.optim.AdamW:
    """AdamW with a constant learning rate of `lr * batch_size / REFERENCE_BATCH`.

    Matrices and convolutions have weight decay, biases and norms have none, and gates and temperatures
    have it if `decay_scalars`, as in the paper's release.

    Args:
        model: the trained modules.
        settings: `lr`, `weight_decay` and `decay_scalars`.
        batch_size: images of a step over all ranks.
    """
    decayed, others = [], []
    for p in model.parameters():
        has_decay = p.ndim > 1 or (p.ndim == 0 and settings.decay_scalars)
        (decayed if has_decay else others).append(p)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    lr = settings.lr * batch_size / REFERENCE_BATCH
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, eps=EPSILON, fused=True)


def say(sentence: str) -> None:
    """Prints on the first rank."""
    if rank() == 0:
        print(sentence, flush=True)


def _find(settings: Settings, labels: Labels, kept: FeatureFolder | None):
    """The index of the images or of their features, the images' files, and their join with the labels."""
    cache = Folder(settings.cache)
    if kept is not None:
        files, index = kept.files, kept.index(cache)
        field = kept.about.source.key_field
        if settings.key_field not in (None, field):
            raise UserError(
                f"the features in {settings.features} were kept "
                f"{f'with --key-field {field}' if field else 'without --key-field'}, "
                f"so that --key-field {settings.key_field} cannot join them"
            )
    else:
        files = find_images(settings.images)
        if files.are_shards and world_size() > len(files.paths):
            raise UserError(
                f"{world_size()} ranks are more than the {len(files.paths)} shards at "
                f"{settings.images}: start fewer, or cut the images into more shards"
            )
        index = open_index(files, settings.key_field, cache, settings.skip_damaged, say)
    joined = cached_join(index, files, labels, settings.key_field, cache, settings.features)
    images = len(np.unique(joined.images))
    several = "" if images == len(joined.images) else f", {len(joined.images):,} captions together"
    say(
        f"{images:,} of {len(index):,} images have one of the {len(labels):,} rows of labels"
        f"{several}, over {labels.num_tags:,} tags"
    )
    _say_what_lacks(labels, joined, "image" if kept is None else "kept features")
    tagged = labels.indptr[joined.labels + 1] > labels.indptr[joined.labels]
    if not tagged.any():
        raise UserError(f"none of these images has a tag: was {settings.labels} made for them?")
    # Images without a tag have no loss of their own.
    if not settings.text_weight and settings.mean_over == TAGGED:
        joined = Join(joined.images[tagged], joined.labels[tagged])
    return index, files, joined


def _say_what_lacks(labels: Labels, joined: Join, what: str) -> None:
    found = np.zeros(len(labels), dtype=bool)
    found[joined.labels] = True
    lacking = np.flatnonzero(~found)
    if len(lacking):
        say(
            f"{len(lacking):,} of the {len(labels):,} rows of labels have no {what} and are left out, for "
            f"example that of the key '{labels.keys(lacking[:1])[0]}'"
        )


def _batch_size(settings: Settings, images: int) -> int:
    world = world_size()
    if settings.batch_size % world:
        raise UserError(f"--batch-size {settings.batch_size} cannot be shared by {world} ranks")
    if images < world:
        raise UserError(f"{images:,} labelled images cannot be shared by {world} ranks")
    size = min(settings.batch_size, images // world * world)
    if size < settings.batch_size:
        say(
            f"a batch of {size:,} instead of {settings.batch_size:,}, as there are no more images; "
            "the learning rate is scaled down with it"
        )
    return size


def _frequencies(settings: Settings, labels: Labels) -> Tensor:
    frequencies = labels.frequencies()
    if settings.tag_loss not in (BALANCED, WEIGHTED):
        return torch.ones_like(frequencies)
    unused = (frequencies <= 0).nonzero().flatten()
    if len(unused):
        raise UserError(
            f"{len(unused):,} tags of {settings.labels} have a frequency of 0, for example "
            f"'{labels.vocabulary.tags[int(unused[0])]}', which --tag-loss {settings.tag_loss} "
            "cannot use"
        )
    return frequencies
