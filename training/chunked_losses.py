"""Loss kernels over B images and T tags that hold only a chunk of rows of the B x T logits.

The logits of image i are x_i = scale * q_i @ tags^T. The tags are fixed, so backward needs only the
gradients of q and of the scale, and both are known as soon as a row's loss is. They are computed in
forward, a chunk of rows at a time, and the buffer of the chunk is used again. Labels stay CSR.

Shapes: B images, T tags, D joint width, nnz tags of all images together, R rows of a chunk, and nnz_R
tags of these rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES = {"cpu": 20 << 20, "cuda": 256 << 20}


class Positives(NamedTuple):
    """The tags of B images: a CSR matrix of shape (B, T).

    Attributes:
        crow: int64 of shape (B + 1,): image i has the tags `cols[crow[i]:crow[i + 1]]`.
        cols: int64 of shape (nnz,): tag ids.
        weights: its values in [0, 1], float32 of shape (nnz,); None where all are one.
    """

    crow: Tensor
    cols: Tensor
    weights: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """The number of tags of each image: int64 of shape (B,)."""
        return self.crow.diff()

    @property
    def mass(self) -> Tensor:
        """The sum of the weights of each image's tags: float32 of shape (B,), or `counts` without weights."""
        if self.weights is None:
            return self.counts
        return self.weights.new_zeros(len(self.counts)).index_add_(0, self.rows, self.weights)

    @property
    def rows(self) -> Tensor:
        """The image of each tag: int64 of shape (nnz,)."""
        counts = self.counts  # (B,)
        return torch.repeat_interleave(
            torch.arange(len(counts), device=counts.device), counts, output_size=len(self.cols)
        )

    @classmethod
    def joined(cls, parts: Sequence[Positives]) -> Positives:
        """Concatenates the images of several batches."""
        counts = torch.cat([part.counts for part in parts])  # (B,)
        weights = [part.weights for part in parts]
        return cls(
            F.pad(counts.cumsum(0), (1, 0)),
            torch.cat([part.cols for part in parts]),
            None if weights[0] is None else torch.cat(weights),
        )

    def to(self, device: torch.device | str) -> Positives:
        return Positives(*(t if t is None else t.to(device, non_blocking=True) for t in self))

    def without_empty(self) -> tuple[Positives, Tensor]:
        """The images that have a tag, and their positions: int64 of shape (images with a tag,)."""
        kept = self.counts.nonzero().flatten()
        crow = torch.cat([self.crow[:1], self.crow[1:][kept]])
        return Positives(crow, self.cols, self.weights), kept

    def renumbered(self, new_id: Tensor) -> Positives:
        """Replaces every tag id by `new_id[id]`, and drops the tags whose new id is -1.

        Args:
            new_id: int64 of shape (T,).
        """
        cols = new_id[self.cols]  # (nnz,)
        kept = cols >= 0  # (nnz,)
        counts = torch.zeros_like(self.counts).index_add_(0, self.rows, kept.long())  # (B,)
        weights = None if self.weights is None else self.weights[kept]
        return Positives(F.pad(counts.cumsum(0), (1, 0)), cols[kept], weights)


def softmax_loss(
    q: Tensor,
    scale: Tensor,
    tags: Tensor,
    positives: Positives,
    values: Tensor,
    bias: Tensor,
    least: float = 0.0,
) -> Tensor:
    """sum_i sum_{n in P_i} values_n * -log max(softmax(x_i + bias)[cols_n], least).

    Args:
        q: shape (B, D).
        scale: shape ().
        tags: shape (T, D); takes no gradient.
        positives: of the B images; on the CPU or on q's device.
        values: shape (nnz,), on q's device, as are the others.
        bias: shape (T,).
        least: a positive of a smaller probability has this one and no gradient.

    Returns:
        shape (); differentiable once, by q and scale.
    """
    return _RowChunks.apply(q, scale, tags, positives, _Softmax(positives, values, bias, least))


def pairwise_loss(
    q: Tensor,
    scale: Tensor,
    tags: Tensor,
    positives: Positives,
    values: Tensor,
    if_positive: Callable[[Tensor], Tensor],
    if_negative: Callable[[Tensor], Tensor],
) -> Tensor:
    """sum_i v_i * (sum_{j in P_i} if_positive(x_ij) + sum_{j not in P_i} if_negative(x_ij)).

    The second sum is computed over all tags, and the part of the positives is subtracted.

    Args:
        q, scale, tags, positives: as in `softmax_loss`.
        values: v, shape (B,).
        if_positive, if_negative: differentiable, element by element.
    """
    row_loss = _Pairwise(positives, values, if_positive, if_negative)
    return _RowChunks.apply(q, scale, tags, positives, row_loss)


class _ChunkLoss(NamedTuple):
    """The loss of R rows and its gradient by their logits x.

    The gradient by x is `factor * gradient`, plus `at_positives` at the positives.
    """

    loss: Tensor  # ()
    gradient: Tensor  # (R, T)
    factor: Tensor  # (R, 1)
    at_positives: Tensor  # (nnz_R,)


class _Softmax:
    """Rows of `softmax_loss`: sum_n values_n * min(logsumexp(x_i) - x_in, -log least)."""

    def __init__(self, positives: Positives, values: Tensor, bias: Tensor, least: float):
        self.most = -math.log(least) if least else math.inf  # of a positive's -log p
        self.bias = bias  # (T,)
        self.values = values  # (nnz,)
        weight = values.new_zeros(len(positives.crow) - 1)  # (B,)
        rows = positives.rows.to(values.device, non_blocking=True)  # (nnz,)
        self.row_weight = weight.index_add_(0, rows, values).unsqueeze(1)  # (B, 1)

    def __call__(
        self, x: Tensor, rows: slice, nonzeros: slice, index: tuple[Tensor, Tensor]
    ) -> _ChunkLoss:
        """The loss of the rows `rows`, whose tags are `nonzeros` of all; overwrites x, (R, T)."""
        values, weight = self.values[nonzeros], self.row_weight[rows]  # (nnz_R,), (R, 1)
        chosen = x[index]  # (nnz_R,)
        top = x.amax(dim=1, keepdim=True)  # (R, 1)
        x.sub_(top).exp_()
        total = x.sum(dim=1, keepdim=True)  # (R, 1)
        logsumexp = top + total.log()  # (R, 1)
        if self.most == math.inf:
            loss = (weight * logsumexp).sum() - (values * chosen).sum()
            return _ChunkLoss(loss, x, weight / total, -values)
        each = logsumexp[index[0], 0] - chosen  # -log p, (nnz_R,)
        loss = (values * each.clamp(max=self.most)).sum()
        values = torch.where(each <= self.most, values, 0)  # (nnz_R,)
        weight = torch.zeros_like(weight).index_add_(0, index[0], values[:, None])  # (R, 1)
        return _ChunkLoss(loss, x, weight / total, -values)


class _Pairwise:
    """Rows of `pairwise_loss`."""

    def __init__(
        self,
        positives: Positives,
        values: Tensor,
        if_positive: Callable[[Tensor], Tensor],
        if_negative: Callable[[Tensor], Tensor],
    ):
        self.bias = None
        self.row_weight = values.unsqueeze(1)  # (B, 1)
        rows = positives.rows.to(values.device, non_blocking=True)  # (nnz,)
        self.values = values[rows]  # (nnz,)
        self.if_positive, self.if_negative = if_positive, if_negative

    def __call__(
        self, x: Tensor, rows: slice, nonzeros: slice, index: tuple[Tensor, Tensor]
    ) -> _ChunkLoss:
        """The loss of the rows `rows`, whose tags are `nonzeros` of all; x has shape (R, T)."""
        values, weight = self.values[nonzeros], self.row_weight[rows]  # (nnz_R,), (R, 1)
        negative, gradient = _value_and_gradient(self.if_negative, x)  # (R, T) each
        difference, change = _value_and_gradient(  # (nnz_R,) each
            lambda x: self.if_positive(x) - self.if_negative(x), x[index]
        )
        loss = (weight * negative).sum() + (values * difference).sum()
        return _ChunkLoss(loss, gradient, weight, values * change)


def _value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """An element-wise function of x and its derivative, both of the shape of x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


class _RowChunks(torch.autograd.Function):
    """Sums a loss over chunks of rows, and computes the gradients of q and scale on the way."""

    @staticmethod
    def forward(ctx, q, scale, tags, positives, row_loss):
        budget = CHUNK_BYTES.get(q.device.type, CHUNK_BYTES["cpu"])
        size = max(budget // (len(tags) * q.element_size()), 1)  # R, but for the last chunk
        # The chunks' bounds are read before positives on the CPU go to a GPU, which would stop the host.
        crow = positives.crow.tolist()  # B + 1 integers
        positives = positives.to(q.device)
        row_of = positives.rows  # (nnz,)
        loss, grad_scale = q.new_zeros(()), q.new_zeros(())
        grad_q = torch.empty_like(q)  # (B, D)
        buffer = q.new_empty(min(size, len(q)), len(tags))  # (R, T)
        for start in range(0, len(q), size):
            rows = slice(start, min(start + size, len(q)))
            nonzeros = slice(crow[rows.start], crow[rows.stop])
            cols, queries = positives.cols[nonzeros], q[rows]  # (nnz_R,), (R, D)
            x = buffer[: len(queries)]  # (R, T)
            if row_loss.bias is None:
                torch.mm(queries * scale, tags.T, out=x)
            else:
                torch.addmm(row_loss.bias, queries * scale, tags.T, out=x)
            chunk = row_loss(x, rows, nonzeros, (row_of[nonzeros] - start, cols))
            loss += chunk.loss
            if not any(ctx.needs_input_grad):
                continue
            # (R, D): the gradient by the logits, times tags
            projected = (chunk.gradient @ tags).mul_(chunk.factor)
            projected += F.embedding_bag(
                cols,
                tags,
                positives.crow[rows] - crow[start],
                mode="sum",
                per_sample_weights=chunk.at_positives,
            )
            grad_scale += (projected * queries).sum()  # as x = scale * q @ tags^T
            torch.mul(projected, scale, out=grad_q[rows])
        ctx.save_for_backward(grad_q, grad_scale)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_loss):
        grad_q, grad_scale = ctx.saved_tensors
        return grad_q * grad_loss, grad_scale * grad_loss, None, None, None
