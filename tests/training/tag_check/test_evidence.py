from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.tag_check.evidence import PATCH_WEIGHT, RIDGE, Sums, evidence, kinds, leverages, pool
from training.tag_check.settings import BOTH, MAX, PATCHES, PICTURE, TOP

B, N, D, TAGS, T = 40, 25, 6, 4, 6  # T: two phrases


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    classes = F.normalize(torch.randn(B, D, generator=generator), dim=-1)
    patches = F.normalize(torch.randn(B, N, D, generator=generator), dim=-1)
    texts = torch.randn(T, D, generator=generator) * 0.3
    own = torch.rand(B, TAGS, generator=generator) < 0.3
    return classes, patches, texts, own


def statistics_of(classes, patches, texts, own, images, step=40, how=MAX):
    sums = Sums(texts, TAGS, how)
    for start in range(0, len(classes), step):
        part = slice(start, start + step)
        rows, cols = own[part].nonzero(as_tuple=True)
        sums.add(classes[part], patches[part], rows, cols)
    return sums.statistics(images)


def measured(statistics, sample, kind, how=MAX):
    classes, patches, texts, own = sample
    columns = torch.arange(T).expand(B, T)
    has = torch.cat([own, torch.zeros(B, T - TAGS, dtype=torch.bool)], 1)
    h = leverages(statistics, classes, np.arange(B))
    return evidence(statistics, texts, classes, patches, columns, has, h, kind, how)


def test_the_sample_can_be_cut_anyhow(sample):
    one = statistics_of(*sample, np.arange(B))
    other = statistics_of(*sample, np.arange(B), step=7)
    for name, tensor in one.tensors().items():
        torch.testing.assert_close(tensor, other.tensors()[name], rtol=1e-4, atol=1e-5)


def test_patches_are_judged_by_each_texts_own_mean_and_spread(sample):
    for how in (MAX, TOP):
        statistics = statistics_of(*sample, np.arange(B), how=how)
        z = measured(statistics, sample, PATCHES, how)
        torch.testing.assert_close(z.mean(0), torch.zeros(T), atol=1e-4, rtol=0)
        torch.testing.assert_close(z.std(0, correction=0), torch.ones(T), atol=1e-3, rtol=0)


def test_what_a_picture_adds_to_its_own_evidence_is_taken_out(sample):
    classes, _, texts, own = sample
    statistics = statistics_of(*sample, np.arange(B))
    z = measured(statistics, sample, PICTURE)
    y = own.float()
    centred, target = classes - classes.mean(0), y - y.mean(0)
    ridge = RIDGE * torch.cov(classes.T, correction=0).diag().mean()
    for i in (0, 17):
        rest = torch.arange(B) != i
        # The same regression without picture i, at the means and the penalty of all.
        a = centred[rest].T @ centred[rest] / B + ridge * torch.eye(D)
        w = torch.linalg.solve(a, centred[rest].T @ target[rest] / B + ridge * texts[:TAGS].T)
        wanted = centred[i] @ w / statistics.spread[:TAGS]
        torch.testing.assert_close(z[i, :TAGS], wanted, rtol=1e-3, atol=1e-3)


def test_a_tag_that_no_caption_has_is_judged_by_its_text_alone(sample):
    classes, patches, texts, own = sample
    own = own.clone()
    own[:, 2] = False
    statistics = statistics_of(classes, patches, texts, own, np.arange(B))
    covariance = torch.cov(classes.T, correction=0)
    ridge = RIDGE * covariance.diag().mean()
    wanted = torch.linalg.solve(covariance + ridge * torch.eye(D), ridge * texts[2])
    torch.testing.assert_close(statistics.weights[2], wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(statistics.weights[TAGS:], texts[TAGS:])


def test_both_is_the_sum_with_a_third_of_the_patches(sample):
    statistics = statistics_of(*sample, np.arange(B))
    parts = [measured(statistics, sample, kind) for kind in (PICTURE, PATCHES, BOTH)]
    torch.testing.assert_close(parts[2], parts[0] + PATCH_WEIGHT * parts[1])


def test_the_best_five_percent_of_patches_are_pooled():
    similarities = torch.arange(40.0).reshape(1, 40, 1)
    assert pool(similarities, MAX).item() == 39
    assert pool(similarities, TOP).item() == 38.5  # two of forty
    assert pool(similarities[:, :5], TOP).item() == 4  # at least one


def test_attributes_are_compared_with_those_whose_texts_are_near():
    near = torch.tensor([[1, 0.1, 0], [1, 0, 0.1], [0, 1, 0.1], [0.1, 1, 0], [5, 5, 5.0]])
    found = kinds(near, [0, 1, 2, 3])
    assert found[0][0] == 1
    assert found[2][0] == 3
    assert not any(4 in others for one, others in found.items() if one != 4)
    assert kinds(near, [3]) == {3: []}
