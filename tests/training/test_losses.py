"""Each loss against a dense float64 reference written from its formula, and its gradients."""

from __future__ import annotations

import math
import os

import pytest
import torch
import torch.multiprocessing as mp
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from training import chunked_losses
from training.chunked_losses import Positives
from training.distributed import process_group, sum_over_ranks, world_size
from training.losses import (
    GROUPVIT,
    TAG_LOSSES,
    ImageTextLoss,
    MultiLabelContrastiveLoss,
    TagLoss,
    Temperature,
)

KINDS = [kind for kind in TAG_LOSSES if kind != GROUPVIT]
B, T, D = 7, 13, 5


@pytest.fixture
def batch():
    return make_batch(0)


def make_batch(seed: int, images: int = B, tags: int = T, empty: tuple[int, ...] = (2, 6)):
    """Features, unit tag vectors, frequencies, and positives; the images of `empty` have none."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(images, D, dtype=torch.float64, generator=generator, requires_grad=True)
    t = F.normalize(torch.randn(tags, D, dtype=torch.float64, generator=generator), dim=-1)
    f = torch.rand(tags, dtype=torch.float64, generator=generator) * 0.5 + 1e-4
    rows = []
    for i in range(images):
        count = 0 if i in empty else int(torch.randint(1, 5, (), generator=generator))
        rows.append(torch.randperm(tags, generator=generator)[:count].sort().values)
    crow = torch.tensor([0, *(len(r) for r in rows)]).cumsum(0)
    return v, t, f, Positives(crow, torch.cat(rows))


def dense_labels(positives: Positives, tags: int) -> torch.Tensor:
    y = torch.zeros(len(positives.crow) - 1, tags, dtype=torch.float64)
    for i in range(len(y)):
        y[i, positives.cols[positives.crow[i] : positives.crow[i + 1]]] = 1
    return y


def reference(kind, v, t, f, y, log_scale) -> torch.Tensor:
    """The definitions, with a dense label matrix, over the images that have a tag."""
    has_tag = y.sum(1) > 0
    y, v = y[has_tag], v[has_tag]
    x = F.normalize(v, dim=-1) @ t.T * log_scale.exp().clamp(max=100)
    label = y / y.sum(1, keepdim=True)
    if kind == "softmax":
        p = x.exp() / x.exp().sum(1, keepdim=True)
        return -(label * p.log()).sum(1).mean()
    if kind == "balanced":
        p = f * x.exp() / (f * x.exp()).sum(1, keepdim=True)
        return -(label * p.log()).sum(1).mean()
    if kind == "weighted":
        p = x.exp() / x.exp().sum(1, keepdim=True)
        return -(f.mean() / f * label * p.log()).sum(1).mean()
    p, log_p, log_not_p = 1 / (1 + (-x).exp()), -(1 + (-x).exp()).log(), -(1 + x.exp()).log()
    if kind == "focal":
        positive = -0.25 * (1 - p) ** 2 * log_p
        negative = -0.75 * p**2 * log_not_p
    else:
        shifted = (p - 0.05).clamp(min=0)
        positive = -log_p
        negative = -(shifted**4) * (1 - shifted).log()
    return ((y * positive + (1 - y) * negative).sum(1) / y.sum(1)).mean()


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_each_tag_loss_equals_its_formula_with_its_gradients(
    kind, batch, rows_at_once, monkeypatch
):
    monkeypatch.setitem(chunked_losses.CHUNK_BYTES, "cpu", rows_at_once * T * 8)
    v, t, f, positives = batch
    loss = TagLoss(kind, f).double()
    ours = loss(v, t, positives)
    by_v, by_scale = torch.autograd.grad(ours, (v, loss.temperature.log_scale))

    log_scale = torch.tensor(math.log(1 / 0.07), dtype=torch.float64, requires_grad=True)
    expected = reference(kind, v, t, f, dense_labels(positives, T), log_scale)
    expected_by_v, expected_by_scale = torch.autograd.grad(expected, (v, log_scale))
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(by_v, expected_by_v, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(by_scale, expected_by_scale, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_written_in_forward_pass_gradcheck(kind, batch, monkeypatch):
    monkeypatch.setitem(chunked_losses.CHUNK_BYTES, "cpu", 2 * T * 8)
    v, t, f, positives = batch
    loss = TagLoss(kind, f).double()

    def by_both(v, log_scale):
        if "log_scale" in loss.temperature._parameters:
            del loss.temperature.log_scale  # a module takes no plain tensor in a parameter's place
        loss.temperature.log_scale = log_scale
        return loss(v, t, positives)

    log_scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(by_both, (v, log_scale))


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("scale", [1.0, 20.0, 60.0])
@pytest.mark.parametrize("kind", ["softmax", "balanced"])
def test_a_least_probability_bounds_each_tag_as_the_release_clamps_it(
    kind, scale, batch, rows_at_once, monkeypatch
):
    monkeypatch.setitem(chunked_losses.CHUNK_BYTES, "cpu", rows_at_once * T * 8)
    v, t, f, positives = batch
    loss = TagLoss(kind, f, least=1e-8).double()
    loss.temperature.log_scale.data.fill_(math.log(scale))
    ours = loss(v, t, positives)
    grads = torch.autograd.grad(ours, (v, loss.temperature.log_scale))

    y = dense_labels(positives, T)
    log_scale = torch.tensor(math.log(scale), dtype=torch.float64, requires_grad=True)
    x = F.normalize(v, dim=-1) @ t.T * log_scale.exp()
    p = (x + (f.log() if kind == "balanced" else 0)).softmax(1)
    p_positive = p[y > 0]
    assert (p_positive < 1e-8).any() == (scale > 1)  # bounded ones are among them, and others
    assert (p_positive > 1e-8).any()
    label = y / y.sum(1, keepdim=True).clamp(min=1)
    expected = -(p.clamp(1e-8).log() * label).sum() / (y.sum(1) > 0).sum()
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    expected_grads = torch.autograd.grad(expected, (v, log_scale))
    torch.testing.assert_close(grads, expected_grads, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_the_losses_keep_their_precision_up_to_the_largest_scale(kind, batch):
    v, t, f, positives = batch
    loss = TagLoss(kind, f)
    loss.temperature.log_scale.data.fill_(10.0)  # clamped to 100
    ours = loss(v.float(), t.float(), positives)
    log_scale = torch.tensor(10.0, dtype=torch.float64)
    expected = reference(kind, v, t, f, dense_labels(positives, T), log_scale)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-5)
    assert ours.dtype == torch.float32


@pytest.mark.parametrize("kind", ["balanced", "weighted"])
def test_uniform_frequencies_make_it_the_plain_softmax(kind, batch):
    v, t, _, positives = batch
    uniform = torch.full((T,), 0.125, dtype=torch.float64)
    plain = TagLoss("softmax", uniform).double()(v, t, positives)
    torch.testing.assert_close(TagLoss(kind, uniform).double()(v, t, positives), plain)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_permutation_of_the_vocabulary_changes_nothing(kind, separate, batch):
    v, t, f, positives = batch
    groups = (torch.arange(T) % 3 == 0).long() if separate else None
    order = torch.randperm(T, generator=torch.Generator().manual_seed(3))
    place = torch.empty_like(order).index_copy_(0, order, torch.arange(T))
    moved = Positives(positives.crow, place[positives.cols])
    before = TagLoss(kind, f, groups).double()(v, t, positives)
    moved_groups = groups[order] if separate else None
    after = TagLoss(kind, f[order], moved_groups).double()(v, t[order], moved)
    torch.testing.assert_close(before, after, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_separate_softmaxes_are_the_mean_of_two_losses_over_their_own_tags(kind, batch):
    v, t, f, positives = batch
    groups = (torch.arange(T) % 3 == 0).long()
    y = dense_labels(positives, T)
    log_scale = torch.tensor(math.log(1 / 0.07), dtype=torch.float64)
    expected = sum(
        reference(kind, v, t[groups == g], f[groups == g], y[:, groups == g], log_scale)
        for g in (0, 1)
    )
    ours = TagLoss(kind, f, groups).double()(v, t, positives)
    torch.testing.assert_close(ours, expected / 2, rtol=1e-6, atol=1e-9)


def with_untagged(v, positives, count: int):
    """The batch with `count` more images that have no tag."""
    more = torch.full((count, D), 1e3, dtype=torch.float64)
    crow = torch.cat([positives.crow, positives.crow[-1:].expand(count)])
    return torch.cat([v, more]), Positives(crow, positives.cols)


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_a_tag_do_not_count(kind, batch):
    v, t, f, positives = batch
    loss = make_loss(kind, f)
    more, with_more = with_untagged(v, positives, 2)
    torch.testing.assert_close(loss(more, t, with_more), loss(v, t, positives))


def test_images_without_a_tag_are_only_negatives_of_tags_in_groupvits_loss(batch):
    v, t, f, positives = batch
    loss = make_loss(GROUPVIT, f)
    more, with_more = with_untagged(v, positives, 2)
    assert loss.images(with_more).tolist() == [5]
    to_tags, to_images = groupvit_terms(v, t, positives)
    same_to_tags, larger_to_images = groupvit_terms(more, t, with_more)
    assert same_to_tags == to_tags
    assert larger_to_images > to_images
    torch.testing.assert_close(
        loss(more, t, with_more), to_tags + larger_to_images, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("kind", [*KINDS, GROUPVIT])
def test_a_batch_without_any_tag_has_no_loss_and_no_gradient(kind, batch):
    v, t, f, _ = batch
    loss = make_loss(kind, f)
    nothing = Positives(torch.zeros(B + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    value = loss(v, t, nothing)
    value.backward()
    assert value == 0
    assert not v.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_add_up_to_the_batch(kind, batch):
    v, t, f, positives = batch
    loss = TagLoss(kind, f, (torch.arange(T) % 2).long()).double()
    denominators = loss.images(positives)
    parts = 0
    for rows in (slice(0, 3), slice(3, 7)):
        start, stop = positives.crow[rows.start], positives.crow[rows.stop]
        crow = positives.crow[rows.start : rows.stop + 1] - start
        parts += loss(v[rows], t, Positives(crow, positives.cols[start:stop]), denominators)
    torch.testing.assert_close(parts, loss(v, t, positives))


def make_loss(kind, f):
    return (MultiLabelContrastiveLoss() if kind == GROUPVIT else TagLoss(kind, f)).double()


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, torch.Tensor) and not tensor.is_sparse:
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // 8)
        return out


@pytest.mark.parametrize("kind", [*KINDS, GROUPVIT])
def test_nothing_of_size_images_by_tags_is_ever_made(kind, monkeypatch):
    images, tags = 64, 4_000
    v, t, f, positives = make_batch(1, images, tags, empty=())
    monkeypatch.setitem(chunked_losses.CHUNK_BYTES, "cpu", 4 * tags * 8)
    loss = make_loss(kind, f)
    with LargestTensor() as largest:
        loss(v, t, positives).backward()
    assert largest.elements < images * tags / 2


def test_image_text_loss_is_eq_5_with_its_gradients(batch):
    v = batch[0]
    texts = torch.randn(B, D, dtype=torch.float64, requires_grad=True)
    loss = ImageTextLoss().double()
    x = F.normalize(v, dim=-1) @ F.normalize(texts, dim=-1).T / 0.07
    to_text = -(x.diag().exp() / x.exp().sum(1)).log().mean()
    to_image = -(x.diag().exp() / x.exp().sum(0)).log().mean()
    torch.testing.assert_close(loss(v, texts), (to_text + to_image) / 2, rtol=1e-6, atol=1e-9)
    assert torch.autograd.gradcheck(loss, (v, texts))


def groupvit_terms(v, t, positives) -> tuple[torch.Tensor, torch.Tensor]:
    """L(I->T) and L(T->I) of the module's docstring, by loops."""
    unit = F.normalize(v, dim=-1)
    own = [positives.cols[positives.crow[i] : positives.crow[i + 1]] for i in range(len(v))]
    to_tags, to_images, count = 0.0, 0.0, 0
    for i in range(len(v)):
        if not len(own[i]):
            continue
        count += 1
        every = sum((unit[i] @ t[m] / 0.07).exp() for tags in own for m in tags)
        to_tags -= (sum((unit[i] @ t[m] / 0.07).exp() for m in own[i]) / every).log()
        for m in own[i]:
            all_images = sum((unit[j] @ t[m] / 0.07).exp() for j in range(len(v)))
            to_images -= ((unit[i] @ t[m] / 0.07).exp() / all_images).log() / len(own[i])
    return to_tags / count, to_images / count


def test_multi_label_contrastive_loss_is_groupvits_formula_with_its_gradients(batch):
    v, t, _, positives = batch
    loss = MultiLabelContrastiveLoss().double()
    expected = sum(groupvit_terms(v, t, positives))
    torch.testing.assert_close(loss(v, t, positives), expected, rtol=1e-6, atol=1e-9)
    assert torch.autograd.gradcheck(lambda v: loss(v, t, positives), v)


def test_the_temperature_starts_at_007_and_its_scale_stops_at_100():
    temperature = Temperature()
    assert temperature().item() == pytest.approx(1 / 0.07)
    temperature.log_scale.data.fill_(math.log(1000))
    assert temperature().item() == 100


def test_a_frequency_of_zero_or_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="frequency above zero"):
        TagLoss("balanced", torch.tensor([0.5, 0.0]))
    with pytest.raises(ValueError, match="'hinge'"):
        TagLoss("hinge", torch.ones(2))


@pytest.mark.parametrize(
    "make", [lambda f: TagLoss("balanced", f), lambda f: MultiLabelContrastiveLoss()]
)
def test_a_denominator_below_one_divides_as_any_other(make):
    """Of one tagged image on two ranks, each rank's denominator is a half."""
    v, t, f, positives = make_batch(3, 4, T, empty=(0, 1, 3))
    loss = make(f).double()
    whole = loss(v, t, positives)
    torch.testing.assert_close(loss(v, t, positives, torch.tensor([0.5])), 2 * whole)


def losses_of_part(rank: int, world: int, port: int, results) -> None:
    """One rank's share of the batch, its losses averaged over ranks as DDP averages gradients."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with process_group():
        v, t, f, positives = make_batch(5, 8, T, empty=(2,))
        texts = torch.randn(8, D, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
        mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
        start, stop = positives.crow[mine.start], positives.crow[mine.stop]
        own = Positives(
            positives.crow[mine.start : mine.stop + 1] - start, positives.cols[start:stop]
        )
        v = v.detach()[mine].requires_grad_()
        values, gradients = [], []
        for loss in (TagLoss("balanced", f).double(), MultiLabelContrastiveLoss().double()):
            denominators = sum_over_ranks(loss.images(own)) / world_size()
            values.append(loss(v, t, own, denominators))
        values.append(ImageTextLoss().double()(v, texts[mine]))
        for value in values:
            gradients.append(torch.autograd.grad(value, v, retain_graph=True)[0] / world)
        mean = sum_over_ranks(torch.stack(values).detach()) / world
        results[rank] = (mean.tolist(), torch.stack(gradients).tolist())


def test_two_ranks_have_the_losses_and_gradients_of_one(free_port):
    with mp.Manager() as manager:
        found = {}
        for world in (1, 2):
            results = manager.dict()
            mp.spawn(losses_of_part, (world, free_port(), results), nprocs=world)
            found[world] = dict(results)
    alone, both = found[1], found[2]
    assert both[0][0] == pytest.approx(alone[0][0], rel=1e-12)
    gradients = torch.cat([torch.tensor(both[rank][1]) for rank in (0, 1)], dim=1)
    torch.testing.assert_close(gradients, torch.tensor(alone[0][1]))
