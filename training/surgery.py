"""Patch tokens from a frozen ViT: CLIP Surgery (arXiv 2304.05653), MaskCLIP, or the ViT as it is.

CLIP Surgery keeps the path x through the blocks as trained. Where it begins, a second path z
starts as a copy of x, and in each further block

    v  = values of LN1(x)                        the block's normalised *original* input
    z += out_proj(softmax(v v^T / sqrt(d)) v)    per head of width d; no feed-forward
    x  = block(x)

Patch tokens come from z, the class token from x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

SURGERY, MASKCLIP, NONE = "surgery", "maskclip", "none"
MODES = (SURGERY, MASKCLIP, NONE)


@dataclass(frozen=True)
class ImagePath:
    """How patch tokens are read from the ViT.

    Attributes:
        mode: `surgery`; `maskclip` (arXiv 2112.01071: the last block with values in place of
            attention); `none`, the tokens as CLIP was trained to make them.
        depth: how many of the last blocks the second path of CLIP Surgery runs beside; 6 in the
            paper. A ViT with fewer blocks takes them all.
    """

    mode: str = SURGERY
    depth: int = 6

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"the image path is one of {', '.join(MODES)}, not '{self.mode}'")
        if self.depth < 1:
            raise ValueError(f"the depth of the surgery is at least one block, not {self.depth}")


class Tokens(NamedTuple):
    """What the ViT says of a batch of B images, before its final LayerNorm and projection.

    Attributes:
        patches: shape (B, h * w, C), row by row.
        class_token: shape (B, C), from the original path whatever the mode; None if not asked for.
        grid: (h, w), in patches.
    """

    patches: Tensor
    class_token: Tensor | None
    grid: tuple[int, int]


def image_tokens(
    visual: VisionTransformer,
    images: Tensor,
    path: ImagePath = ImagePath(),
    class_token: bool = True,
) -> Tokens:
    """Runs the ViT along the chosen path.

    Args:
        visual: open_clip's ViT.
        images: normalised, shape (B, 3, H, W); H and W are multiples of the patch size, and
            position embeddings are interpolated where they are not those of the training.
        path: the mode and its depth.
        class_token: without it the last block is not run along the original path.

    Raises:
        ValueError: a side that is not a multiple of the patch size.
    """
    x, grid = embed_patches(visual, images)
    blocks = visual.transformer.resblocks
    if path.mode == NONE:
        for block in blocks:
            x = block(x)
        return Tokens(x[:, 1:], x[:, 0], grid)

    if path.mode == MASKCLIP:
        for block in blocks[:-1]:
            x = block(x)
        last = blocks[-1]
        patches = x[:, 1:]
        patches = patches + last.ls_1(last.attn.out_proj(_values(last, patches)))
        patches = patches + last.ls_2(last.mlp(last.ln_2(patches)))
        return Tokens(patches, last(x)[:, 0] if class_token else None, grid)

    start = max(len(blocks) - path.depth, 0)
    for block in blocks[:start]:
        x = block(x)
    z = x
    for i, block in enumerate(blocks[start:], start=start + 1):
        z = z + block.ls_1(value_attention(block, x))
        if i < len(blocks) or class_token:
            x = block(x)
    return Tokens(z[:, 1:], x[:, 0] if class_token else None, grid)


def value_attention(block: nn.Module, x: Tensor) -> Tensor:
    """out_proj(softmax(v v^T / sqrt(d)) v) with v the values of LN1(x), per head of width d.

    Args:
        block: a residual block of the ViT.
        x: its input, shape (B, N, C).

    Returns:
        shape (B, N, C).
    """
    v = _values(block, x).unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(v, v, v)
    return block.attn.out_proj(mixed.transpose(1, 2).flatten(-2))


def plain_features(visual: VisionTransformer, tokens: Tensor) -> Tensor:
    """CLIP's own final LayerNorm and projection: tokens (..., C) to its joint space (..., D)."""
    return visual.ln_post(tokens) @ visual.proj


def embed_patches(visual: VisionTransformer, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """The ViT's stem: tokens of shape (B, 1 + h * w, C), the class token first, and the grid."""
    height, width = images.shape[-2:]
    side = visual.patch_size[0]
    if height % side or width % side:
        raise ValueError(f"an image of {height} x {width} pixels is not whole patches of {side}")
    x = visual.conv1(images)
    grid = (x.shape[2], x.shape[3])
    x = x.flatten(2).transpose(1, 2)
    first = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1)
    return visual.ln_pre(x + position_embeddings(visual, grid).to(x.dtype)), grid


def position_embeddings(visual: VisionTransformer, grid: tuple[int, int]) -> Tensor:
    """Position embeddings for a grid of h x w patches, bicubic where it is not that of training.

    Returns:
        shape (1 + h * w, C), the class token's first.
    """
    positions = visual.positional_embedding
    if grid == tuple(visual.grid_size):
        return positions
    trained = positions[1:].T.reshape(1, -1, *visual.grid_size)
    # antialias matters only where the grid shrinks, and is what open_clip does with a checkpoint
    resized = F.interpolate(
        trained.float(), size=grid, mode="bicubic", align_corners=False, antialias=True
    )
    return torch.cat([positions[:1], resized[0].flatten(1).T.to(positions.dtype)])


def _values(block: nn.Module, x: Tensor) -> Tensor:
    """The values of LN1(x), shape (B, N, C): the last third of the joint input projection."""
    attn, width = block.attn, x.shape[-1]
    bias = attn.in_proj_bias[2 * width :] if attn.in_proj_bias is not None else None
    return F.linear(block.ln_1(x), attn.in_proj_weight[2 * width :], bias)
