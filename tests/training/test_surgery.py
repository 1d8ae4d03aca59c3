"""The image paths, against open_clip's own output and against loops written from the papers."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch

from training.surgery import ImagePath, image_tokens, plain_features, position_embeddings


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


@pytest.mark.parametrize("mode", ["surgery", "maskclip"])
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


@pytest.mark.parametrize("side", [16, 48, 64])
def test_positions_are_resized_as_open_clip_resizes_a_checkpoint(tiny, tiny_folder, side):
    resized = open_clip.create_model(f"local-dir:{tiny_folder}", force_image_size=side)
    expected = resized.visual.positional_embedding
    ours = position_embeddings(tiny.visual, (side // 8, side // 8))
    torch.testing.assert_close(ours, expected.detach())


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
