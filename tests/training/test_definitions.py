"""From pixels to both losses in float32, against the paper's formulas in numpy and float64.

Nothing of the project's own is used on the other side but weights: the ViT, CLIP Surgery, positions resized
without antialiasing, the projector, pooling, Eq. 1, 2, 4 and 5 are written out again. The image of 64 pixels
is to this model of 32 what 448 are to one of 224.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.chunked_losses import Positives
from training.clip import load_clip
from training.losses import ImageTextLoss, TagLoss
from training.projector import Projector
from training.surgery import ImagePath, image_tokens, plain_features

TOLERANCE = 2e-4  # of the largest value
TAGS = ((0, 3, 5), (2,), (), (1, 4))  # of the four images
PATCH, HEADS, GRID = 8, 4, 4  # of the tiny model


def weights_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def softmax(x: np.ndarray) -> np.ndarray:
    power = np.exp(x - x.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def quick_gelu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-1.702 * x))


def cubic(distance: float) -> float:
    """Keys's kernel with a = -0.75."""
    d = abs(distance)
    if d <= 1:
        return 1.25 * d**3 - 2.25 * d**2 + 1
    return -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def cubic_matrix(size: int, out: int) -> np.ndarray:
    """Weights of `size` samples at each of `out` places; each takes four, however many it covers."""
    matrix = np.zeros((out, size))
    for place in range(out):
        centre = (place + 0.5) * size / out - 0.5
        for sample in range(math.floor(centre) - 1, math.floor(centre) + 3):
            matrix[place, min(max(sample, 0), size - 1)] += cubic(centre - sample)
    return matrix


def embedded(w: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Pixels (B, 3, H, W) to tokens (B, N, C)."""
    batch, _, height, width = images.shape
    h, v = height // PATCH, width // PATCH
    cut = images.reshape(batch, 3, h, PATCH, v, PATCH).transpose(0, 2, 4, 1, 3, 5)
    kernel = w["conv1.weight"].reshape(len(w["conv1.weight"]), -1)
    patches = cut.reshape(batch, h * v, -1) @ kernel.T
    positions = w["positional_embedding"]
    table = positions[1:].reshape(GRID, GRID, -1)
    resized = np.einsum("ar,bc,rcd->abd", cubic_matrix(GRID, h), cubic_matrix(GRID, v), table)
    first = np.broadcast_to(w["class_embedding"] + positions[0], (batch, 1, patches.shape[-1]))
    x = np.concatenate([first, patches + resized.reshape(h * v, -1)], 1)
    return layer_norm(x, w["ln_pre.weight"], w["ln_pre.bias"])


def surgery(w, images, layers: int, depth: int, activation) -> tuple[np.ndarray, np.ndarray]:
    """Patches of the second path and the class token of the first, of the last `depth` blocks."""
    x = z = embedded(w, images)
    for layer in range(layers):
        p = {
            name.removeprefix(f"transformer.resblocks.{layer}."): value for name, value in w.items()
        }
        normed = layer_norm(x, p["ln_1.weight"], p["ln_1.bias"])
        joint = normed @ p["attn.in_proj_weight"].T + p["attn.in_proj_bias"]
        q, k, v = (part.reshape(*x.shape[:2], HEADS, -1) for part in np.split(joint, 3, -1))

        def attention(one, other, value=v, p=p, shape=x.shape):
            scores = np.einsum("bnad,bmad->banm", one, other) / math.sqrt(one.shape[-1])
            mixed = np.einsum("banm,bmad->bnad", softmax(scores), value).reshape(shape)
            return mixed @ p["attn.out_proj.weight"].T + p["attn.out_proj.bias"]

        if layer >= layers - depth:
            z = z + attention(v, v)
        x = x + attention(q, k)
        hidden = layer_norm(x, p["ln_2.weight"], p["ln_2.bias"])
        hidden = activation(hidden @ p["mlp.c_fc.weight"].T + p["mlp.c_fc.bias"])
        x = x + hidden @ p["mlp.c_proj.weight"].T + p["mlp.c_proj.bias"]
        if layer < layers - depth:
            z = x
    return z[:, 1:], x[:, 0]


def projected(w, tokens: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Two blocks of two gated 3 x 3 convolutions, then CLIP's norm and projection: (B, N, D)."""
    x = tokens.reshape(len(tokens), *grid, -1)  # (B, h, w, C)
    for name in ("blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1"):
        y = gelu(layer_norm(x, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"]))
        y = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
        total = 0.0
        for r in range(3):
            for c in range(3):
                near = y[:, r : r + grid[0], c : c + grid[1]]
                total = total + near @ w[f"{name}.conv.weight"][:, :, r, c].T
        x = x + np.tanh(w[f"{name}.gate"]) * (total + w[f"{name}.conv.bias"])
    x = layer_norm(x, w["norm.weight"], w["norm.bias"])
    return (x @ w["proj"]).reshape(len(x), grid[0] * grid[1], -1)


def close(ours: torch.Tensor, expected: np.ndarray | float) -> None:
    expected = np.asarray(expected)
    assert ours.dtype == torch.float32
    assert ours.shape == expected.shape
    error = np.abs(ours.detach().double().numpy() - expected).max()
    assert error <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (40, 72)])
@pytest.mark.parametrize("depth", [2, 6])
def test_an_image_and_its_losses_are_those_of_the_formulas(depth, size, quick, tiny_folder):
    clip = load_clip(str(tiny_folder), quick_gelu=quick)
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(len(TAGS), 3, *size, generator=generator)
    grid = (size[0] // PATCH, size[1] // PATCH)
    ours = image_tokens(clip.visual, images, ImagePath("surgery", depth))
    w = weights_of(clip.visual)
    patches, class_token = surgery(
        w, images.double().numpy(), 4, min(depth, 4), quick_gelu if quick else gelu
    )
    close(ours.patches, patches)
    close(ours.class_token, class_token)
    plain = layer_norm(patches, w["ln_post.weight"], w["ln_post.bias"]) @ w["proj"]
    close(plain_features(clip.visual, ours.patches), plain)

    projector = Projector(clip.visual)
    for parameter in projector.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    features = projector(ours.patches, grid)
    expected = projected(weights_of(projector), patches, grid)
    close(features, expected)
    pooled, expected = features.mean(1), expected.mean(1)
    close(pooled, expected)

    tags = F.normalize(torch.randn(6, 48, generator=generator), dim=-1)
    captions = torch.randn(len(TAGS), 48, generator=generator)
    counts = torch.tensor([0, *map(len, TAGS)]).cumsum(0)
    positives = Positives(counts, torch.tensor([tag for one in TAGS for tag in one]))
    frequencies = torch.tensor([0.5, 0.001, 0.1, 0.25, 0.02, 0.7])
    cosines = unit(expected) @ tags.double().numpy().T / 0.07
    for kind, shares in (("softmax", np.ones(6)), ("balanced", frequencies.double().numpy())):
        p = shares * np.exp(cosines)
        p /= p.sum(1, keepdims=True)
        each = [-np.log(p[row, list(found)]).mean() for row, found in enumerate(TAGS) if found]
        loss = TagLoss(kind, frequencies)
        close(loss(pooled, tags, positives), np.mean(each))
        # The release's mean is over all images, also those without a tag.
        by_all = loss(pooled, tags, positives, torch.tensor([float(len(TAGS))]))
        close(by_all, np.sum(each) / len(TAGS))

    logits = unit(expected) @ unit(captions.double().numpy()).T / 0.07
    own = np.arange(len(TAGS))
    both = [-np.log(softmax(one)[own, own]).mean() for one in (logits, logits.T)]
    close(ImageTextLoss()(pooled, captions), np.mean(both))
