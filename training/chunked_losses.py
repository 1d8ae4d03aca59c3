"""Losses over B images and T tags that never hold more than a few rows of the B x T logits.

The logits of image i are x_i = scale * q_i @ tags^T. The tags are fixed, so all that backward needs is
the gradient by q and by the scale, and both are known as soon as a row's loss is: they are written
in forward, a chunk of rows at a time, and the chunk's buffer is used again. Labels stay CSR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES = {"cpu": 20 << 20, "cuda": 256 << 20}


class Positives(NamedTuple):
    """The tags of B images: a CSR matrix without its values, which are all one.

    Attributes:
        crow: int64 of shape (B + 1,): image i owns `cols[crow[i]:crow[i + 1]]`.
        cols: int64 of shape (nnz,): tag ids.
    """

    crow: Tensor
    cols: Tensor

    @property
    def counts(self) -> Tensor:
        """Tags of each image: int64 of shape (B,)."""
        return self.crow.diff()

    @property
    def rows(self) -> Tensor:
        """The image of each tag: int64 of shape (nnz,)."""
        counts = self.counts
        return torch.repeat_interleave(
            torch.arange(len(counts), device=counts.device), counts, output_size=len(self.cols)
        )

    @classmethod
    def joined(cls, parts: Sequence[Positives]) -> Positives:
        """The images of several batches, one after the other."""
        counts = torch.cat([part.counts for part in parts])
        return cls(F.pad(counts.cumsum(0), (1, 0)), torch.cat([part.cols for part in parts]))

    def to(self, device: torch.device | str) -> Positives:
        return Positives(*(t.to(device, non_blocking=True) for t in self))

    def without_empty(self) -> tuple[Positives, Tensor]:
        """The images that have a tag, and their positions: int64 of shape (B',)."""
        kept = self.counts.nonzero().flatten()
        crow = torch.cat([self.crow[:1], self.crow[1:][kept]])
        return Positives(crow, self.cols), kept

    def renumbered(self, new_id: Tensor) -> Positives:
        """Gives every tag the id `new_id[tag]` and leaves out those whose new id is -1."""
        cols = new_id[self.cols]
        kept = cols >= 0
        counts = torch.zeros_like(self.counts).index_add_(0, self.rows, kept.long())
        return Positives(F.pad(counts.cumsum(0), (1, 0)), cols[kept])


def softmax_loss(
    q: Tensor, scale: Tensor, tags: Tensor, positives: Positives, values: Tensor, bias: Tensor
) -> Tensor:
    """sum_i sum_{n in P_i} values_n * -log softmax(x_i + bias)[cols_n].

    Args:
        q: shape (B, D).
        scale: shape ().
        tags: shape (T, D); takes no gradient.
        positives: of the B images.
        values: shape (nnz,).
        bias: shape (T,).

    Returns:
        shape (); its gradient reaches q and scale, once.
    """
    return _RowChunks.apply(q, scale, tags, positives, _Softmax(positives, values, bias))


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

    The second sum is taken over all tags, and the positives' share of it is taken back.

    Args:
        q, scale, tags, positives: as in `softmax_loss`.
        values: v, shape (B,).
        if_positive, if_negative: differentiable, element by element.
    """
    head = _Pairwise(positives, values, if_positive, if_negative)
    return _RowChunks.apply(q, scale, tags, positives, head)


class _Chunk(NamedTuple):
    loss: Tensor  # shape ()
    gradient: Tensor  # d loss / d x without the positives' part, up to a factor for each row
    factor: Tensor  # that factor, shape (rows, 1)
    at_positives: Tensor  # the positives' own part, shape (nnz of the rows,)


class _Softmax:
    """Rows of `softmax_loss`: sum_n values_n * (logsumexp(x_i) - x_in)."""

    def __init__(self, positives: Positives, values: Tensor, bias: Tensor):
        self.bias = bias
        self.values = values
        weight = values.new_zeros(len(positives.crow) - 1)
        self.row_weight = weight.index_add_(0, positives.rows, values).unsqueeze(1)

    def __call__(self, x: Tensor, rows: slice, ones: slice, at: tuple[Tensor, Tensor]) -> _Chunk:
        values, weight = self.values[ones], self.row_weight[rows]
        chosen = x[at]
        top = x.amax(dim=1, keepdim=True)
        x.sub_(top).exp_()
        total = x.sum(dim=1, keepdim=True)
        loss = (weight * (top + total.log())).sum() - (values * chosen).sum()
        return _Chunk(loss, x, weight / total, -values)


class _Pairwise:
    def __init__(
        self,
        positives: Positives,
        values: Tensor,
        if_positive: Callable[[Tensor], Tensor],
        if_negative: Callable[[Tensor], Tensor],
    ):
        self.bias = None
        self.row_weight = values.unsqueeze(1)
        self.values = values[positives.rows]
        self.if_positive, self.if_negative = if_positive, if_negative

    def __call__(self, x: Tensor, rows: slice, ones: slice, at: tuple[Tensor, Tensor]) -> _Chunk:
        values, weight = self.values[ones], self.row_weight[rows]
        chosen = x[at]
        everywhere, gradient = _value_and_gradient(self.if_negative, x)
        instead, change = _value_and_gradient(
            lambda x: self.if_positive(x) - self.if_negative(x), chosen
        )
        loss = (weight * everywhere).sum() + (values * instead).sum()
        return _Chunk(loss, gradient, weight, values * change)


def _value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


class _RowChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, scale, tags, positives, head):
        budget = CHUNK_BYTES.get(q.device.type, CHUNK_BYTES["cpu"])
        size = max(budget // (len(tags) * q.element_size()), 1)
        crow, row_of = positives.crow.tolist(), positives.rows
        loss, by_scale, by_q = q.new_zeros(()), q.new_zeros(()), torch.empty_like(q)
        buffer = q.new_empty(min(size, len(q)), len(tags))
        for start in range(0, len(q), size):
            rows = slice(start, min(start + size, len(q)))
            ones = slice(crow[rows.start], crow[rows.stop])
            cols, queries = positives.cols[ones], q[rows]
            x = buffer[: len(queries)]
            if head.bias is None:
                torch.mm(queries * scale, tags.T, out=x)
            else:
                torch.addmm(head.bias, queries * scale, tags.T, out=x)
            chunk = head(x, rows, ones, (row_of[ones] - start, cols))
            loss += chunk.loss
            if not any(ctx.needs_input_grad):
                continue
            by_logits = (chunk.gradient @ tags).mul_(chunk.factor)  # (d loss / d x) @ tags
            by_logits += F.embedding_bag(
                cols,
                tags,
                positives.crow[rows] - crow[start],
                mode="sum",
                per_sample_weights=chunk.at_positives,
            )
            by_scale += (by_logits * queries).sum()  # as x = scale * q @ tags^T
            torch.mul(by_logits, scale, out=by_q[rows])
        ctx.save_for_backward(by_q, by_scale)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, by_loss):
        by_q, by_scale = ctx.saved_tensors
        return by_q * by_loss, by_scale * by_loss, None, None, None
