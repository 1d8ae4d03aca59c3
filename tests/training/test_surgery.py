"""The image paths, against open_clip's own output and against loops written from the papers."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch

from training.surgery import (
    MODES,
    ImagePath,
    embed_patches,
    image_tokens,
    neighbourhood,
    plain_features,
    position_embeddings,
)


def naive_surgery(visual, images, depth):
    """CLIP Surgery with one loop over images and one over heads, from arXiv 2304.05653."""
    x = visual._embeds(images)
    blocks = visual.transformer.resblocks
    for block in blocks[: len(blocks) - depth]:
        x = block(x)
    z = x.clone()
    for block in blocks[len(blocks) - depth :]:
        width, heads = x.shape[-1], block.attn.num_heads
        head = width // heads
        weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
        for b in range(len(x)):
            outputs = []
            normed = block.ln_1(x[b])
            for h in range(heads):
                rows = slice(h * head, (h + 1) * head)
                v = normed @ weight[rows].T + bias[rows]
                scores = v @ v.T / math.sqrt(head)
                outputs.append(torch.softmax(scores, dim=-1) @ v)
            z[b] += (
                torch.cat(outputs, dim=-1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
            )
        x = block(x)
    return z[:, 1:], x[:, 0]


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_surgery_equals_a_loop_over_images_and_heads(tiny, images, depth):
    tiny.double()
    images = images.double()
    tokens = image_tokens(tiny.visual, images, ImagePath("surgery", depth))
    patches, class_token = naive_surgery(tiny.visual, images, depth)
    torch.testing.assert_close(tokens.patches, patches, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tokens.class_token, class_token, rtol=1e-10, atol=1e-10)
    assert tokens.grid == (4, 4)


def test_surgery_scales_each_layer_where_the_model_does(tiny, images):
    start = tiny.visual._embeds(images)
    blocks = tiny.visual.transformer.resblocks
    blocks[-1].ls_1 = open_clip.transformer.LayerScale(32, 0.0)
    tiny.visual.transformer.resblocks = blocks[-1:]
    tokens = image_tokens(tiny.visual, images, ImagePath("surgery", 1))
    torch.testing.assert_close(tokens.patches, start[:, 1:])


def test_without_surgery_the_tokens_are_open_clips_own(tiny, tiny_folder, images):
    model = open_clip.create_model(f"local-dir:{tiny_folder}").eval().requires_grad_(False)
    model.visual.output_tokens = True
    pooled, tokens = model.visual(images)
    ours = image_tokens(tiny.visual, images, ImagePath("none"))
    assert torch.equal(plain_features(tiny.visual, ours.class_token), pooled)
    assert torch.equal(plain_features(tiny.visual, ours.patches), tokens @ model.visual.proj)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "none"])
def test_the_class_token_is_untouched_by_what_happens_to_the_patches(tiny, images, mode):
    tokens = image_tokens(tiny.visual, images, ImagePath(mode))
    assert torch.equal(plain_features(tiny.visual, tokens.class_token), tiny.visual(images))
    alone = image_tokens(tiny.visual, images, ImagePath(mode), class_token=False)
    assert alone.class_token is None
    torch.testing.assert_close(alone.patches, tokens.patches)


def test_maskclip_is_a_last_block_in_which_each_patch_attends_to_itself(tiny, images):
    *blocks, last = tiny.visual.transformer.resblocks
    x = tiny.visual._embeds(images)
    for block in blocks:
        x = block(x)
    to_itself = torch.full((17, 17), float("-inf")).fill_diagonal_(0)
    expected = last(x, attn_mask=to_itself)[:, 1:]
    ours = image_tokens(tiny.visual, images, ImagePath("maskclip")).patches
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def heads_of(block, x):
    """Queries, keys and values of LN1(x) for one image, a list of (N, d) triples by head."""
    width, heads = x.shape[-1], block.attn.num_heads
    joint = block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    head = width // heads
    return [
        tuple(joint[:, p * width + h * head : p * width + (h + 1) * head] for p in range(3))
        for h in range(heads)
    ]


def attend(a, v, added=0.0):
    """softmax(a a^T / sqrt(d) + added) v, by loops over rows."""
    rows = []
    for i in range(len(a)):
        scores = torch.stack([a[i] @ a[j] for j in range(len(a))]) / math.sqrt(a.shape[1])
        scores = scores + (added[i] if torch.is_tensor(added) else added)
        weights = scores.exp() / scores.exp().sum()
        rows.append(weights @ v)
    return torch.stack(rows)


def gaussians(height, width):
    """NACLIP's term for each pair of tokens, from the distance of their patches."""
    cells = [(r, c) for r in range(height) for c in range(width)]
    table = torch.zeros(1 + len(cells), 1 + len(cells), dtype=torch.float64)
    for i, (r, c) in enumerate(cells, start=1):
        for j, (s, d) in enumerate(cells, start=1):
            table[i, j] = math.exp(-((r - s) ** 2 + (c - d) ** 2) / (2 * 5**2))
    return table


def naive_last_block(visual, images, mode):
    """SCLIP, ClearCLIP and NACLIP from their definitions, one image and one head at a time."""
    x, _ = embed_patches(visual, images)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    table = gaussians(images.shape[2] // 8, images.shape[3] // 8)
    results = []
    for one in x:
        mixed = []
        for q, k, v in heads_of(last, one):
            if mode == "sclip":
                mixed.append(attend(q, v) + attend(k, v))
            elif mode == "clearclip":
                mixed.append(attend(q, v))
            else:
                mixed.append(attend(k, v, table))
        out = last.attn.out_proj
        y = torch.cat(mixed, dim=-1) @ out.weight.T + out.bias
        if mode == "sclip":
            y = one + y
            y = y + last.mlp(last.ln_2(y))
        results.append(y[1:])
    return torch.stack(results)


@pytest.mark.parametrize("mode", ["sclip", "clearclip", "naclip"])
@pytest.mark.parametrize("size", [(32, 32), (40, 64)])
def test_a_changed_last_block_is_the_one_of_its_paper(tiny, mode, size):
    tiny.double()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    ours = image_tokens(tiny.visual, images, ImagePath(mode)).patches
    expected = naive_last_block(tiny.visual, images, mode)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


def test_naclips_gaussian_is_of_the_distance_in_patches():
    torch.testing.assert_close(neighbourhood((3, 5)), gaussians(3, 5).float())


@pytest.mark.parametrize("mode", MODES)
def test_every_path_runs_under_autocast(tiny, images, mode):
    exact = image_tokens(tiny.visual, images, ImagePath(mode)).patches
    with torch.autocast("cpu", torch.bfloat16):
        tokens = image_tokens(tiny.visual, images, ImagePath(mode)).patches
    assert (tokens.float() - exact).norm() < 0.05 * exact.norm()


def cubic(distance):
    """The kernel of bicubic interpolation with a = -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resized_by_loops(table, size):
    """Bicubic interpolation of (h, w, C) to (*size, C) without antialiasing; borders are repeated."""
    height, width, _ = table.shape
    result = torch.zeros(*size, table.shape[2], dtype=table.dtype)
    for r in range(size[0]):
        for c in range(size[1]):
            y = (r + 0.5) * height / size[0] - 0.5
            x = (c + 0.5) * width / size[1] - 0.5
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    cell = table[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                    result[r, c] += cubic(y - i) * cubic(x - j) * cell
    return result


@pytest.mark.parametrize("grid", [(2, 2), (8, 8), (3, 7), (5, 4)])
def test_positions_are_resized_bicubic_without_antialiasing(tiny, grid):
    positions = tiny.double().visual.positional_embedding
    expected = resized_by_loops(positions[1:].reshape(4, 4, -1), grid).flatten(0, 1)
    ours = position_embeddings(tiny.visual, grid)
    assert torch.equal(ours[0], positions[0])
    torch.testing.assert_close(ours[1:], expected, rtol=1e-5, atol=1e-6)


def test_images_of_any_shape_in_whole_patches_are_taken(tiny):
    tokens = image_tokens(tiny.visual, torch.randn(2, 3, 40, 64))
    assert tokens.grid == (5, 8)
    assert tokens.patches.shape == (2, 40, 32)
    with pytest.raises(ValueError, match="30 x 32 pixels is not whole patches of 8"):
        image_tokens(tiny.visual, torch.randn(1, 3, 30, 32))


def test_an_unknown_mode_or_depth_is_refused():
    with pytest.raises(ValueError, match="not 'surgeon'"):
        ImagePath("surgeon")
    with pytest.raises(ValueError, match="at least one block"):
        ImagePath(depth=0)
