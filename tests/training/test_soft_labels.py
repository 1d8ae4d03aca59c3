"""Scores of a checked label file as the weights of positives."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from common.errors import UserError
from labels.label_file import SCORED_LABELS, LabelWriter, read_footer
from training.chunked_losses import Positives
from training.losses import BALANCED, SOFTMAX, WEIGHTED, TagLoss, images_with_tags
from training.settings import Settings
from training.trainer import train

T, D = 7, 5
FREQUENCIES = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.1, 0.05, 0.01])
CROW = torch.tensor([0, 2, 2, 5, 6])  # the second image has no tag
COLS = torch.tensor([0, 3, 1, 2, 6, 5])
SCORES = torch.tensor([1.0, 0.25, 0.5, 0.1, 0.05, 0.2])


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, D, generator=generator, dtype=torch.float64)
    tags = F.normalize(torch.randn(T, D, generator=generator, dtype=torch.float64), dim=-1)
    return images, tags


def reference(kind: str, images, tags, scores, scale) -> torch.Tensor:
    """Eq. 1, 2 and 4 with weights, image by image."""
    f = FREQUENCIES.double()
    x = scale * F.normalize(images, dim=-1) @ tags.T
    total, count = 0.0, 0.0
    for i in range(len(images)):
        span = slice(int(CROW[i]), int(CROW[i + 1]))
        s = scores[span].double()
        log_p = (x[i] + (f.log() if kind == BALANCED else 0)).log_softmax(0)[COLS[span]]
        if kind == WEIGHTED:
            log_p = log_p * (f.mean() / f)[COLS[span]]
        total = total - (s * log_p).sum() / max(1.0, float(s.sum()))
        count += min(1.0, float(s.sum()))
    return total / count


@pytest.mark.parametrize("kind", [BALANCED, SOFTMAX, WEIGHTED])
def test_scores_weigh_the_positives_of_eq_2_and_4(kind, features):
    images, tags = features
    images.requires_grad_()
    loss = TagLoss(kind, FREQUENCIES).double()
    found = loss(images, tags, Positives(CROW, COLS, SCORES))
    wanted = reference(kind, images, tags, SCORES, loss.temperature())
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    (got,) = torch.autograd.grad(found, images)
    (expected,) = torch.autograd.grad(wanted, images)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-9)


def test_scores_of_one_are_the_unweighted_loss(features):
    loss = TagLoss(BALANCED, FREQUENCIES)
    images, tags = (one.float() for one in features)
    plain = loss(images, tags, Positives(CROW, COLS))
    assert loss(images, tags, Positives(CROW, COLS, torch.ones(6))).item() == plain.item()


def test_tags_of_score_zero_are_as_if_they_were_dropped(features):
    loss = TagLoss(BALANCED, FREQUENCIES).double()
    images, tags = features
    scores = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])  # the last image loses its only tag
    dropped = Positives(torch.tensor([0, 1, 1, 3, 3]), torch.tensor([0, 1, 6]))
    found = loss(images, tags, Positives(CROW, COLS, scores))
    assert found.item() == pytest.approx(loss(images, tags, dropped).item(), rel=1e-6)


def test_weights_follow_their_tags_where_images_are_joined_left_out_or_split():
    one = Positives(CROW, COLS, SCORES)
    both = Positives.joined([one, one])
    assert both.weights.tolist() == SCORES.tolist() * 2
    assert both.mass.tolist() == pytest.approx([1.25, 0, 0.65, 0.2] * 2)
    left, kept = one.without_empty()
    assert kept.tolist() == [0, 2, 3]
    assert left.mass.tolist() == pytest.approx([1.25, 0.65, 0.2])
    new_id = torch.tensor([0, -1, -1, 1, -1, 2, -1])
    assert one.renumbered(new_id).weights.tolist() == pytest.approx([1.0, 0.25, 0.2])
    assert Positives(CROW, COLS).to("cpu").weights is None


def test_an_image_counts_as_much_as_its_tags_at_most_once():
    assert images_with_tags(Positives(CROW, COLS, SCORES)).item() == pytest.approx(1.85)
    group_of = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    found = images_with_tags(Positives(CROW, COLS, SCORES), group_of, 2)
    assert found.tolist() == pytest.approx([1 + 0.6, 0.25 + 0.05 + 0.2])


def scored(path: Path, out: Path, score: float) -> Path:
    """A label file in which every second tag has a score, and the others 1."""
    table = pq.read_table(path)
    values = [[score if i % 2 else 1.0 for i in ids] for ids in table["tag_ids"].to_pylist()]
    column = pa.array(values, SCORED_LABELS.field("scores").type)
    with LabelWriter(out, read_footer(path)[2], {"model": "x"}) as writer:
        writer.write(table.append_column(SCORED_LABELS.field("scores"), column))
    return out


def losses(folder: str) -> list[float]:
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss_tag"] for line in lines]


def test_a_run_takes_scores_and_full_ones_change_nothing(world, tmp_path):
    half = scored(world.labels, tmp_path / "half.parquet", 0.125)
    full = scored(world.labels, tmp_path / "full.parquet", 1.0)
    found = {}
    for name, labels, soft in (
        ("plain", world.labels, False), ("hard", half, False), ("full", full, True), ("half", half, True),
    ):  # fmt: skip
        settings = world.settings(
            tmp_path, labels=str(labels), name=name, soft_labels=soft, steps=2, micro_batch=5
        )
        found[name] = losses(train(settings).url)
    assert found["plain"] == found["hard"] == found["full"]
    assert found["half"] != found["plain"]


def test_soft_labels_without_scores_are_one_sentence(world, tmp_path):
    with pytest.raises(UserError, match="has no scores for --soft-labels"):
        train(world.settings(tmp_path, soft_labels=True))


@pytest.mark.parametrize("loss", ["focal", "asymmetric", "groupvit"])
def test_soft_labels_are_for_the_softmax_losses(loss):
    with pytest.raises(UserError, match="--soft-labels is for --tag-loss balanced"):
        Settings(labels="x", soft_labels=True, tag_loss=loss)
