"""The paper's losses, and those it compares them with.

With unit vectors v_i for image i and t_j for tag j, a learnable temperature T and the set P_i of
the image's tags (TagAlign, arXiv 2312.14149):

    p_ij = exp(v_i.t_j / T) / sum_k exp(v_i.t_k / T)                                    (Eq. 1)
    L_tag = mean_i -sum_{j in P_i} log(p_ij) / |P_i|,  over images with a tag           (Eq. 2)
    p_ij = f_j exp(v_i.t_j / T) / sum_k f_k exp(v_i.t_k / T),  f_j tag j's frequency    (Eq. 4)
    L_itc = batch-wise InfoNCE between images and their captions                        (Eq. 5)
    L = w_tag * L_tag + w_itc * L_itc                                                   (Eq. 6)

With soft labels a tag of image i has a score s_ij in [0, 1], the weight of its term. |P_i| becomes
max(1, sum_j s_ij), and an image counts min(1, sum_j s_ij) in the mean: tags of score 0 are as if they were not
there, and an image whose tags are all doubtful counts less than others. Scores of 1 give Eq. 2 and 4.

No loss builds an image-by-tag label matrix; see `chunked_losses.py`.

Shapes: B images of this rank, R ranks, D joint width, T tags, G softmaxes, nnz tags of the B images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.chunked_losses import Positives, pairwise_loss, softmax_loss
from training.distributed import gather_ragged, gather_rows, rank

TEMPERATURE = 0.07
MAX_SCALE = 100.0

BALANCED, SOFTMAX, WEIGHTED, FOCAL, ASYMMETRIC = (
    "balanced",
    "softmax",
    "weighted",
    "focal",
    "asymmetric",
)
GROUPVIT = "groupvit"
TAG_LOSSES = (BALANCED, SOFTMAX, WEIGHTED, FOCAL, ASYMMETRIC, GROUPVIT)
SOFTMAX_LOSSES = (BALANCED, SOFTMAX, WEIGHTED)  # those that soft labels are defined for


class Temperature(nn.Module):
    """A learnable temperature; calling it gives the scale 1 / T, at most 100, shape ()."""

    def __init__(self, initial: float = TEMPERATURE):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / initial)))

    def forward(self) -> Tensor:
        return self.log_scale.exp().clamp(max=MAX_SCALE)


class TagLoss(nn.Module):
    """Multi-tag classification: Eq. 4 and 2 (the default), Eq. 1 and 2, or a loss of Table 6.

    | kind | per image, x_j = v.t_j / T |
    |---|---|
    | balanced | Eq. 4 and 2 |
    | softmax | Eq. 1 and 2 |
    | weighted | Eq. 1 and 2 with tag j's term times w_j = mean(f) / f_j |
    | focal | sigmoid focal loss (arXiv 1708.02002), alpha 0.25, gamma 2, over all tags, by abs(P) |
    | asymmetric | ASL (arXiv 2009.14119), gammas 0 and 4, margin 0.05, over all tags, by abs(P) |

    Args:
        kind: a key of the table.
        frequencies: f, shape (T,), all positive.
        groups: int64 of shape (T,), the softmax of each tag (0, 1, ..., G - 1); None puts all tags
            into one. The loss is the mean of the G losses.
        least: p_ij of a smaller probability counts as this one and has no gradient; of the first three.

    Raises:
        ValueError: an unknown kind or a frequency that is not positive.
    """

    def __init__(
        self,
        kind: str,
        frequencies: Tensor,
        groups: Tensor | None = None,
        least: float = 0.0,
    ):
        super().__init__()
        if kind not in TAG_LOSSES or kind == GROUPVIT:
            raise ValueError(f"no tag loss is called '{kind}'")
        if not (frequencies > 0).all():
            raise ValueError("every tag needs a frequency above zero")
        self.kind, self.least = kind, least
        self.temperature = Temperature()
        if groups is None:
            groups = torch.zeros(len(frequencies), dtype=torch.int64)
        self.num_groups = int(groups.max()) + 1 if len(groups) else 1
        members = [(groups == g).nonzero().flatten() for g in range(self.num_groups)]
        self._new_ids: list[Tensor] = []  # (T,) each; on the CPU, where the trainer's positives are
        for g, ids in enumerate(members):
            self.register_buffer(f"_ids_{g}", ids, persistent=False)  # (tags of group g,)
            new_id = torch.full((len(groups),), -1)
            self._new_ids.append(new_id.index_copy_(0, ids, torch.arange(len(ids))))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("group_of", groups, persistent=False)

    def groups(self, positives: Positives) -> list[Positives]:
        """The positives of each softmax, with the tags' ids within it."""
        if self.num_groups == 1:
            return [positives]
        return [positives.renumbered(ids.to(positives.cols.device)) for ids in self._new_ids]

    def images(self, positives: Positives) -> Tensor:
        """How many images have a tag in each softmax, the denominators of Eq. 2: shape (G,)."""
        group_of = self.group_of.to(positives.cols.device)
        return images_with_tags(positives, group_of, self.num_groups)

    def forward(
        self, images: Tensor, tags: Tensor, positives: Positives, denominators: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            images: features of shape (B, D), of any length.
            tags: unit vectors of shape (T, D); they take no gradient.
            positives: of the B images; on the CPU the host need not wait for a GPU.
            denominators: divisors of the G sums over images, shape (G,), for a batch that is a part of
                a larger one; they may be below 1, as a mean over ranks is. None takes
                `images(positives)`.

        Returns:
            shape (); 0 for a batch without tags.
        """
        if denominators is None:
            denominators = self.images(positives)
        denominators = denominators.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            dtype = torch.promote_types(images.dtype, torch.float32)
            v = F.normalize(images.to(dtype), dim=-1)  # (B, D)
            scale = self.temperature().to(dtype)  # ()
            total = (
                v.sum() * 0 + scale * 0
            )  # DDP needs a gradient of every parameter, also without tags
            for g, positives_of_group in enumerate(self.groups(positives)):
                # With one softmax no rows of `tags` need to be copied.
                ids = getattr(self, f"_ids_{g}") if self.num_groups > 1 else slice(None)
                tags_of_group = tags[ids].to(dtype)  # (tags of group g, D)
                frequencies = self.frequencies[ids].to(dtype)  # (tags of group g,)
                if len(positives_of_group.cols):
                    loss = self._sum(v, scale, tags_of_group, positives_of_group, frequencies)
                    total = total + loss / _divisor(denominators[g])
            return total / self.num_groups

    def _sum(
        self, v: Tensor, scale: Tensor, tags: Tensor, positives: Positives, frequencies: Tensor
    ) -> Tensor:
        """The sum of the loss over images with a tag, shape ()."""
        positives, kept = positives.without_empty()
        v = v[kept.to(v.device, non_blocking=True)]  # (images with a tag, D)
        mass = positives.mass.to(v.device, v.dtype, non_blocking=True)  # (images with a tag,)
        share = 1 / mass.clamp(min=1)  # the 1 / |P_i| of Eq. 2
        if self.kind == FOCAL:
            return pairwise_loss(v, scale, tags, positives, share, focal_positive, focal_negative)
        if self.kind == ASYMMETRIC:
            return pairwise_loss(
                v, scale, tags, positives, share, asymmetric_positive, asymmetric_negative
            )
        rows, cols = (t.to(v.device, non_blocking=True) for t in (positives.rows, positives.cols))
        values, bias = share[rows], torch.zeros_like(frequencies)  # (nnz,), (T,)
        if positives.weights is not None:
            values = values * positives.weights.to(v.device, v.dtype, non_blocking=True)
        if self.kind == BALANCED:
            bias = frequencies.log()
        elif self.kind == WEIGHTED:
            values = values * (frequencies.mean() / frequencies)[cols]
        return softmax_loss(v, scale, tags, positives, values, bias, self.least)


def focal_positive(x: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """-alpha (1 - p)^gamma log p, p = sigmoid(x) (arXiv 1708.02002, Eq. 5)."""
    return -alpha * (gamma * F.logsigmoid(-x)).exp() * F.logsigmoid(x)


def focal_negative(x: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """-(1 - alpha) p^gamma log(1 - p)."""
    return -(1 - alpha) * (gamma * F.logsigmoid(x)).exp() * F.logsigmoid(-x)


def asymmetric_positive(x: Tensor) -> Tensor:
    """-(1 - p)^0 log p, p = sigmoid(x) (arXiv 2009.14119, gamma+ = 0)."""
    return -F.logsigmoid(x)


def asymmetric_negative(x: Tensor, gamma: float = 4.0, margin: float = 0.05) -> Tensor:
    """-p_m^gamma log(1 - p_m), p_m = max(p - margin, 0)."""
    shifted = (x.sigmoid() - margin).clamp(min=0)
    return -shifted.pow(gamma) * torch.log1p(-shifted)


class ImageTextLoss(nn.Module):
    """Eq. 5: InfoNCE between the images and the captions of a batch over all ranks.

    The mean over images of -log exp(v_i.c_i / T) / sum_j exp(v_i.c_j / T), averaged with the same
    expression for captions against images. It has a temperature of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.temperature = Temperature()

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """The loss of this rank's images and captions against those of all ranks.

        Args:
            images: features of shape (B, D), the same B on every rank.
            texts: features of their captions, shape (B, D).

        Returns:
            shape (); its mean over ranks is the loss of the whole batch.
        """
        with torch.autocast(images.device.type, enabled=False):
            dtype = torch.promote_types(images.dtype, torch.float32)
            images = F.normalize(images.to(dtype), dim=-1)  # (B, D)
            texts = F.normalize(texts.to(dtype), dim=-1)  # (B, D)
            scale = self.temperature().to(dtype)  # ()
            own = torch.arange(len(images), device=images.device) + len(images) * rank()  # (B,)
            image_loss = F.cross_entropy(
                scale * images @ gather_rows(texts).T, own
            )  # of (B, R * B)
            text_loss = F.cross_entropy(scale * texts @ gather_rows(images).T, own)
            return (image_loss + text_loss) / 2


class MultiLabelContrastiveLoss(nn.Module):
    """GroupViT's multi-label contrastive loss (arXiv 2202.11094), for section 3.2.

    The negatives of an image's tags are the tags of the batch's other images, not the vocabulary:

        L(I->T) = mean_i -log sum_{m in P_i} exp(v_i.t_m / T) / sum_j sum_{m in P_j} exp(v_i.t_m / T)
        L(T->I) = mean_i mean_{m in P_i} -log exp(v_i.t_m / T) / sum_j exp(v_j.t_m / T)

    and their sum, over images with a tag. An image without a tag is a negative in L(T->I) only.
    GroupViT samples three nouns of each caption; here an image has all its tags, whose number differs
    between images, so the second mean of L(T->I) is over each image's own tags.
    """

    num_groups = 1

    def __init__(self) -> None:
        super().__init__()
        self.temperature = Temperature()

    def images(self, positives: Positives) -> Tensor:
        """How many images have a tag, shape (1,)."""
        return images_with_tags(positives)

    def forward(
        self, images: Tensor, tags: Tensor, positives: Positives, denominators: Tensor | None = None
    ) -> Tensor:
        """As `TagLoss.forward`; images of the other ranks and their tags are part of the batch."""
        if denominators is None:
            denominators = self.images(positives)
        positives = positives.to(images.device)
        denominators = denominators.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            dtype = torch.promote_types(images.dtype, torch.float32)
            v = F.normalize(images.to(dtype), dim=-1)  # (B, D)
            tags = tags.to(dtype)  # (T, D)
            scale = self.temperature().to(dtype)  # ()
            # nnz_all: the tags of all images of all ranks
            parts = gather_ragged(positives.cols)  # R of (nnz of that rank,)
            first = sum(len(part) for part in parts[: rank()])
            all_v, all_tags = gather_rows(v), tags[torch.cat(parts)]  # (R * B, D), (nnz_all, D)

            rows, counts = positives.rows, positives.counts  # (nnz,), (B,)
            x = scale * v @ all_tags.T  # (B, nnz_all)
            chosen = x[rows, torch.arange(len(rows), device=x.device) + first]  # (nnz,)
            own = _logsumexp_by_row(chosen, rows, len(v))  # (B,)
            total = x.logsumexp(dim=1) if x.shape[1] else torch.zeros_like(own)  # (B,)
            to_tags = torch.where(counts > 0, total - own, torch.zeros_like(own)).sum()  # ()

            y = scale * tags[positives.cols] @ all_v.T  # (nnz, R * B)
            own_image = (rows + len(v) * rank()).unsqueeze(1)  # (nnz, 1)
            picked = y.gather(1, own_image).squeeze(1)  # (nnz,)
            each = (y.logsumexp(dim=1) - picked) / counts[rows]  # (nnz,)
            total = to_tags + each.sum() + all_v.sum() * 0 + scale * 0  # ()
            return total / _divisor(denominators[0])


def images_with_tags(
    positives: Positives, group_of: Tensor | None = None, num_groups: int = 1
) -> Tensor:
    """How many images have a tag of each group: int64 of shape (G,).

    With weights it is the sum over images of min(1, the sum of the image's weights), float32.

    Args:
        positives: of the images.
        group_of: the group of each tag, int64 of shape (T,), on the same device; not read if G is 1.
        num_groups: G.
    """
    if num_groups == 1:
        mass = positives.mass  # (B,)
        return (mass > 0 if positives.weights is None else mass.clamp(max=1)).sum().reshape(1)
    cells = positives.rows * num_groups + group_of[positives.cols]  # (nnz,), of a (B, G) matrix
    size = len(positives.counts) * num_groups
    if positives.weights is not None:
        mass = positives.weights.new_zeros(size).index_add_(0, cells, positives.weights)
        return mass.clamp(max=1).view(-1, num_groups).sum(0)
    has_tag = torch.zeros(size, dtype=torch.bool, device=cells.device).index_fill(0, cells, True)
    return has_tag.view(-1, num_groups).sum(0)


def _divisor(count: Tensor) -> Tensor:
    """A denominator, or 1 in place of 0: the sum over no images is 0 as well."""
    return torch.where(count > 0, count, torch.ones_like(count))


def _logsumexp_by_row(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """log sum exp of the values of each row, shape (num_rows,); 0 for a row without values."""
    top = values.new_full((num_rows,), -math.inf)  # (num_rows,)
    top = top.scatter_reduce(0, rows, values.detach(), "amax")
    top = torch.where(top.isfinite(), top, torch.zeros_like(top))
    sums = values.new_zeros(num_rows).index_add(0, rows, (values - top[rows]).exp())
    empty = sums == 0
    return torch.where(empty, torch.zeros_like(sums), torch.where(empty, 1.0, sums).log() + top)
