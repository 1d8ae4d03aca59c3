"""CPU and GPU compute the same: losses, image paths, projector, maps of the evaluator."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from eval.inference.segmenter import Segmenter
from eval.inference.settings import Inference
from training.chunked_losses import Positives
from training.clip import load_clip
from training.dense import load_dense
from training.losses import (
    TAG_LOSSES,
    ImageTextLoss,
    MultiLabelContrastiveLoss,
    TagLoss,
)
from training.projector import Projector
from training.surgery import MODES, ImagePath, image_tokens

pytestmark = pytest.mark.gpu
B, D, T = 12, 16, 50


def batch():
    """Features, tags, frequencies, and positives of which image 3 has none."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(B, D, generator=generator)
    tags = torch.nn.functional.normalize(torch.randn(T, D, generator=generator), dim=-1)
    frequencies = torch.rand(T, generator=generator) + 0.01
    counts = torch.tensor([0 if i == 3 else 1 + i % 5 for i in range(B)])
    rows = [torch.randperm(T, generator=generator)[:n].sort().values for n in counts.tolist()]
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return features, tags, frequencies, Positives(crow, torch.cat(rows))


def tag_loss(kind: str, frequencies: torch.Tensor, groups: torch.Tensor | None):
    return MultiLabelContrastiveLoss() if kind == "groupvit" else TagLoss(kind, frequencies, groups)


@pytest.mark.parametrize("where", ["positives on the CPU", "positives on the device"])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("kind", TAG_LOSSES)
def test_a_tag_loss_and_its_gradients_are_the_cpus(kind, separate, where, device):
    if separate and kind == "groupvit":
        pytest.skip("it has one softmax")
    features, tags, frequencies, positives = batch()
    groups = torch.arange(T) % 2 if separate else None
    results = []
    for place in (torch.device("cpu"), device):
        loss = tag_loss(kind, frequencies, groups).to(place)
        v = features.to(place).requires_grad_()
        theirs = positives.to(place) if where.endswith("device") else positives
        value = loss(v, tags.to(place), theirs)
        value.backward()
        scale = loss.temperature.log_scale.grad
        results.append([t.detach().cpu() for t in (value, v.grad, scale)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


def test_the_image_text_loss_is_the_cpus(device):
    features, tags, *_ = batch()
    results = []
    for place in (torch.device("cpu"), device):
        loss, v = ImageTextLoss().to(place), features.to(place).requires_grad_()
        value = loss(v, tags[:B].to(place))
        value.backward()
        results.append([value.detach().cpu(), v.grad.cpu()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [*TAG_LOSSES, "text"])
def test_losses_are_float32_also_under_autocast(kind, device):
    """The features are bfloat16's; what is made of them is no less exact than without autocast."""
    features, tags, frequencies, positives = batch()
    v = features.to(device, torch.bfloat16)
    loss = ImageTextLoss() if kind == "text" else tag_loss(kind, frequencies, None)
    loss = loss.to(device)
    rest = (tags[:B],) if kind == "text" else (tags, positives)
    rest = tuple(one.to(device) for one in rest)
    exact = loss(v.float(), *rest)
    with torch.autocast(device.type, torch.bfloat16):
        ours = loss(v, *rest)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [(32, 32), (48, 64)])
@pytest.mark.parametrize("mode", MODES)
def test_an_image_path_is_the_cpus(mode, size, tiny_folder, device):
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    found = []
    for place in (torch.device("cpu"), device):
        clip = load_clip(str(tiny_folder), device=place)
        tokens = image_tokens(clip.visual, pixels.to(place), ImagePath(mode))
        found.append((tokens.patches.cpu(), tokens.class_token.cpu()))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)


def test_the_projector_and_its_gradients_are_the_cpus(tiny_folder, device):
    clip = load_clip(str(tiny_folder))
    torch.manual_seed(0)
    projector = Projector(clip.visual)
    for name, parameter in projector.named_parameters():
        if name.endswith("gate"):
            parameter.data.fill_(0.5)
    tokens = torch.randn(3, 20, clip.width, generator=torch.Generator().manual_seed(2))
    found = []
    for place in (torch.device("cpu"), device):
        ours = copy.deepcopy(projector).to(place)
        features = ours(tokens.to(place), (4, 5))
        features.square().mean().backward()
        found.append([features.detach().cpu(), *(p.grad.cpu() for p in ours.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)


def test_the_evaluators_maps_are_the_cpus(tiny_folder, device):
    """The GPU computes windows in half precision, hence the tolerance."""
    noise = np.random.default_rng(3).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((90, 60), Image.Resampling.BICUBIC)
    inference = Inference(size=48, window=32, stride=16, threshold=None)
    maps, labels = [], []
    for place in (torch.device("cpu"), device):
        dense = load_dense("surgery", place, str(tiny_folder))
        classes = dense.encode_texts(["a cat", "a red ball", "the sky"])
        segmenter = Segmenter(dense, classes, inference)
        maps.append(segmenter.similarities(image))
        labels.append(segmenter.label_maps([image])[0])
    np.testing.assert_allclose(maps[1], maps[0], atol=5e-3)
    assert (labels[0] == labels[1]).mean() > 0.97
