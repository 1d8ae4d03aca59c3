r"""The evidence of a tag in a picture, in units of the tag's own spread over pictures at random.

For picture i with class token c_i and patches x_in (n = 1 ... N) of the frozen image path, and the text
embedding of tag j less the mean of all tags, t_j:

    q_ij = pool_n x_in . t_j                              of the patches: the best, or the best 5%
    p_ij = (c_i - m) . w_j                                of the whole picture
    w_j  = (C + l I)^-1 (1/n sum_i y_ij (c_i - m) + l t_j)
    z_ij = (p_ij - E p_j) / sd p_j + 0.35 (q_ij - E q_j) / sd q_j

All means and spreads are over a sample of n pictures: m and C are the mean and the covariance of their
class tokens, y_ij is 1 where the caption of i has tag j, and l = 0.3 trace(C) / D. So w_j is a ridge
regression of "the caption says j" on the class token, which is pulled towards the text embedding: a tag
that few captions have is judged by its text alone. What a picture of the sample itself adds to its own
p_ij is taken out (the regression without i is (p - h y) / (1 - h), h = (c_i - m)^T (C + l I)^-1 (c_i - m) / n).

An attribute has the score of the object that its caption binds it to (`binding.py`). With `--attributes
phrases` it is also judged by phrases, against the attributes b of its kind:

    d_iao = z_i(a o) - mean_{b in kind(a)} z_i(b o)       with w of "a o" its text embedding

where kind(a) are the attributes whose text embeddings are the nearest to that of a.

Shapes: B pictures, N patches, D joint width, T texts (tags and phrases), k texts of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.distributed import sum_over_ranks
from training.tag_check.settings import BOTH, MAX, PATCHES, PICTURE

RIDGE = 0.3
TOP_SHARE = 0.05
PATCH_WEIGHT = 0.35
KIND = 6  # attributes that one is compared with
_COLUMNS = 2048


@dataclass
class Statistics:
    """What the sample says of every text.

    Attributes:
        mean: m, float32 of shape (D,).
        inverse: (C + l I)^-1 / n, float32 of shape (D, D).
        weights: w, float32 of shape (T, D).
        spread: standard deviation of p, shape (T,).
        shares: of the sample's captions with each text, shape (T,); 0 for phrases.
        patch_mean, patch_spread: of q, shape (T,).
        sample: rows of the index, int64 of shape (n,), ascending.
    """

    mean: Tensor
    inverse: Tensor
    weights: Tensor
    spread: Tensor
    shares: Tensor
    patch_mean: Tensor
    patch_spread: Tensor
    sample: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name).cpu().contiguous() for field in fields(self)}

    def to(self, device: torch.device) -> Statistics:
        """All but `sample`, which is looked up on the CPU."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return Statistics(**moved | {"sample": self.sample})


def pool(similarities: Tensor, how: str) -> Tensor:
    """The best patches: (B, N, T) to (B, T)."""
    if how == MAX:
        return similarities.amax(1)
    best = max(round(TOP_SHARE * similarities.shape[1]), 1)
    return similarities.topk(best, dim=1).values.mean(1)


class Sums:
    """Adds up a sample, of which every rank sees a part.

    Args:
        texts: embeddings, centred, float32 of shape (T, D).
        tags: how many of the texts are tags; they come first.
        how: see `pool`.
    """

    def __init__(self, texts: Tensor, tags: int, how: str):
        self.texts, self.tags, self.how = texts, tags, how
        count, width = texts.shape
        device = texts.device

        def zeros(*shape: int) -> Tensor:
            # not every device adds in float64
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.n, self.c, self.cc = zeros(1), zeros(width), zeros(width, width)
        self.labelled = torch.zeros(tags, width, device=device)
        self.counts, self.q, self.qq = zeros(tags), zeros(count), zeros(count)

    def add(self, classes: Tensor, patches: Tensor, rows: Tensor, cols: Tensor) -> None:
        """Adds pictures.

        Args:
            classes: class tokens, shape (B, D).
            patches: shape (B, N, D).
            rows, cols: which picture has which tag, each pair once; int64 of shape (nnz,).
        """
        wide = classes.double()
        self.n += len(classes)
        self.c += wide.sum(0)
        self.cc += wide.T @ wide
        self.labelled.index_add_(0, cols, classes[rows])
        self.counts.index_add_(0, cols, torch.ones_like(cols, dtype=torch.float64))
        for start in range(0, len(self.texts), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            q = pool(patches @ self.texts[part].T, self.how).double()  # (B, columns)
            self.q[part] += q.sum(0)
            self.qq[part] += q.square().sum(0)

    def statistics(self, sample: np.ndarray) -> Statistics:
        """The sums of all ranks as statistics."""
        for one in (self.n, self.c, self.cc, self.labelled, self.counts, self.q, self.qq):
            sum_over_ranks(one)
        n = self.n.clamp(min=1)
        mean = self.c / n  # (D,)
        covariance = self.cc / n - mean.outer(mean)  # (D, D)
        ridge = RIDGE * covariance.diag().mean().clamp(min=1e-12)
        inverse = torch.linalg.inv(
            covariance + ridge * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
        )
        texts = self.texts.double()
        weights = texts.clone()  # (T, D)
        shares = torch.zeros(len(texts), dtype=torch.float64, device=texts.device)
        shares[: self.tags] = self.counts / n
        moments = self.labelled.double() / n - shares[: self.tags, None] * mean  # (tags, D)
        weights[: self.tags] = (moments + ridge * texts[: self.tags]) @ inverse
        spread = ((weights @ covariance) * weights).sum(1).clamp(min=0).sqrt()
        patch_mean = self.q / n
        patch_spread = (self.qq / n - patch_mean.square()).clamp(min=0).sqrt()
        return Statistics(
            mean.float(), (inverse / n).float(), weights.float(), spread.clamp(min=1e-8).float(),
            shares.float(), patch_mean.float(), patch_spread.clamp(min=1e-8).float(),
            torch.from_numpy(np.sort(sample)),
        )  # fmt: skip


def evidence(
    statistics: Statistics,
    texts: Tensor,
    classes: Tensor,
    patches: Tensor,
    columns: Tensor,
    own: Tensor,
    leverage: Tensor,
    kind: str = BOTH,
    how: str = MAX,
) -> Tensor:
    """z of some texts of each picture.

    Args:
        statistics: of all texts.
        texts: embeddings, centred, shape (T, D).
        classes: class tokens, shape (B, D).
        patches: shape (B, N, D).
        columns: texts that each picture is compared with, int64 of shape (B, k).
        own: whether the picture's caption has that text, bool of shape (B, k).
        leverage: h of the pictures of the sample, 0 for others, shape (B,); see `leverages`.
        kind: `both`, `patches` or `picture`.
        how: see `pool`.

    Returns:
        float32 of shape (B, k).
    """
    z = torch.zeros(columns.shape, device=classes.device)
    if kind != PATCHES:
        centred = classes - statistics.mean  # (B, D)
        p = (statistics.weights[columns] @ centred.unsqueeze(2)).squeeze(2)  # (B, k)
        h = leverage.unsqueeze(1) * (statistics.shares[columns] > 0)  # phrases are not fitted
        p = (p - h * (own.float() - statistics.shares[columns])) / (1 - h)
        z += p / statistics.spread[columns]
    if kind != PICTURE:
        q = pool(patches @ texts[columns].transpose(1, 2), how)  # (B, k)
        q = (q - statistics.patch_mean[columns]) / statistics.patch_spread[columns]
        z += q * (PATCH_WEIGHT if kind == BOTH else 1)
    return z


def leverages(statistics: Statistics, classes: Tensor, images: np.ndarray) -> Tensor:
    """h of each picture, shape (B,); 0 where it is not one of the sample.

    Args:
        statistics: of the sample.
        classes: class tokens, shape (B, D).
        images: rows of the index, shape (B,).
    """
    centred = classes - statistics.mean  # (B, D)
    h = ((centred @ statistics.inverse) * centred).sum(1)
    inside = torch.from_numpy(np.isin(images, statistics.sample.numpy())).to(h.device)
    return torch.where(inside, h.clamp(max=0.99), torch.zeros_like(h))


def kinds(embeddings: Tensor, attributes: Sequence[int]) -> dict[int, list[int]]:
    """For each attribute, the attributes that it is compared with.

    Args:
        embeddings: of all tags, shape (T, D).
        attributes: ids of the attributes.

    Returns:
        id -> at most `KIND` ids.
    """
    ids = torch.tensor(attributes, dtype=torch.int64)
    if len(ids) < 2:
        return {int(one): [] for one in ids}
    own = embeddings.cpu()[ids]
    own = F.normalize(own - own.mean(0), dim=-1)  # (attributes, D)
    near: dict[int, list[int]] = {}
    for start in range(0, len(ids), _COLUMNS):
        similar = own[start : start + _COLUMNS] @ own.T
        best = similar.topk(min(KIND + 1, len(ids)), dim=1).indices
        for row, found in enumerate(best.tolist(), start=start):
            near[int(ids[row])] = [int(ids[one]) for one in found if one != row][:KIND]
    return near
