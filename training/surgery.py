"""Patch tokens from a frozen ViT: CLIP Surgery (arXiv 2304.05653), or another last block, or none.

CLIP Surgery keeps the path x through the blocks as it was trained. At one of the last blocks a second
path z starts as a copy of x, and in this and each later block

    v  = values of LN1(x)                        the block's normalised *original* input
    z += out_proj(softmax(v v^T / sqrt(d)) v)    per head of width d; no feed-forward
    x  = block(x)

Patch tokens come from z, the class token from x. The other paths change the last block alone. With its
queries q, keys k and values v of LN1(x), and Attn(a) = softmax(a a^T / sqrt(d)) v per head:

    maskclip   arXiv 2112.01071   y = x + out_proj(v);  y + MLP(LN2(y))
    sclip      arXiv 2312.01597   y = x + out_proj(Attn(q) + Attn(k));  y + MLP(LN2(y))
    clearclip  arXiv 2407.12442   out_proj(Attn(q))
    naclip     arXiv 2404.08181   out_proj(softmax(k k^T / sqrt(d) + G) v)

G is a Gaussian of the distance of two patches, 1 at no distance, and 0 for the class token.

Shapes: B images, H x W pixels, N = 1 + h * w tokens of the class and of a grid of h x w patches,
C channels, D joint width, A attention heads of width d = C / A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

SURGERY, MASKCLIP, NONE = "surgery", "maskclip", "none"
SCLIP, CLEARCLIP, NACLIP = "sclip", "clearclip", "naclip"
MODES = (SURGERY, MASKCLIP, SCLIP, CLEARCLIP, NACLIP, NONE)
NEIGHBOURHOOD = 5.0  # standard deviation of NACLIP's Gaussian, in patches


@dataclass(frozen=True)
class ImagePath:
    """How patch tokens are read from the ViT.

    Attributes:
        mode: `surgery`; `maskclip`, `sclip`, `clearclip` or `naclip`, see the head of this file; `none`,
            the tokens of the unchanged ViT.
        depth: number of last blocks that have the second path of CLIP Surgery; 6 in the paper. A ViT
            with fewer blocks has it in all of them.

    Raises:
        ValueError: an unknown mode, or a depth below 1.
    """

    mode: str = SURGERY
    depth: int = 6

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"the image path is one of {', '.join(MODES)}, not '{self.mode}'")
        if self.depth < 1:
            raise ValueError(f"the depth of the surgery is at least one block, not {self.depth}")


class Tokens(NamedTuple):
    """The tokens of B images, before the ViT's final LayerNorm and projection.

    Attributes:
        patches: shape (B, h * w, C), in row-major order.
        class_token: shape (B, C), from the original path in every mode; None if not asked for.
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
        images: normalised, shape (B, 3, H, W); H and W are multiples of the patch size. Position
            embeddings are interpolated if the grid is not that of training.
        path: the mode and its depth.
        class_token: compute it; False leaves out the last block of the original path.

    Raises:
        ValueError: a side that is not a multiple of the patch size.
    """
    x, grid = embed_patches(visual, images)  # (B, N, C)
    blocks = visual.transformer.resblocks
    if path.mode == NONE:
        for block in blocks:
            x = block(x)
        return Tokens(x[:, 1:], x[:, 0], grid)

    if path.mode != SURGERY:
        for block in blocks[:-1]:
            x = block(x)
        patches = _last_block(blocks[-1], x, path.mode, grid)  # (B, h * w, C)
        return Tokens(patches, blocks[-1](x)[:, 0] if class_token else None, grid)

    start = max(len(blocks) - path.depth, 0)
    for block in blocks[:start]:
        x = block(x)
    z = x  # (B, N, C)
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
    v = _by_head(block, _values(block, x))  # (B, A, N, d)
    return _joined(block, F.scaled_dot_product_attention(v, v, v))


def neighbourhood(grid: tuple[int, int], device: torch.device | str | None = None) -> Tensor:
    """NACLIP's G: exp(-distance^2 / (2 sigma^2)) of two patches, and 0 for the class token.

    Args:
        grid: (h, w).
        device: of the result.

    Returns:
        float32 of shape (N, N); sigma is `NEIGHBOURHOOD` patches.
    """
    down, across = (torch.arange(side, device=device).float() for side in grid)
    # The Gaussian of a distance is the product of those of its two coordinates.
    gaussians = [
        torch.exp(-((at[:, None] - at) ** 2) / (2 * NEIGHBOURHOOD**2)) for at in (down, across)
    ]
    return F.pad(torch.kron(*gaussians), (1, 0, 1, 0))


def _last_block(last: nn.Module, x: Tensor, mode: str, grid: tuple[int, int]) -> Tensor:
    """The patches that a changed last block makes of its input x: (B, N, C) to (B, h * w, C)."""
    if mode == MASKCLIP:
        update = last.attn.out_proj(_values(last, x))  # (B, N, C)
    else:
        attend = F.scaled_dot_product_attention
        joint = F.linear(last.ln_1(x), last.attn.in_proj_weight, last.attn.in_proj_bias)
        q, k, v = (_by_head(last, part) for part in joint.chunk(3, dim=-1))  # (B, A, N, d)
        if mode == SCLIP:
            mixed = attend(q, q, v) + attend(k, k, v)
        elif mode == CLEARCLIP:
            mixed = attend(q, q, v)
        else:
            mixed = attend(k, k, v, attn_mask=neighbourhood(grid, x.device).to(k.dtype))
        update = _joined(last, mixed)  # (B, N, C)
    patches = last.ls_1(update)[:, 1:]  # (B, h * w, C)
    if mode in (CLEARCLIP, NACLIP):
        return patches
    patches = x[:, 1:] + patches
    return patches + last.ls_2(last.mlp(last.ln_2(patches)))


def _by_head(block: nn.Module, x: Tensor) -> Tensor:
    """(B, N, C) to (B, A, N, d)."""
    return x.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)


def _joined(block: nn.Module, mixed: Tensor) -> Tensor:
    """The output projection of the heads together: (B, A, N, d) to (B, N, C)."""
    return block.attn.out_proj(mixed.transpose(1, 2).flatten(-2))


def plain_features(visual: VisionTransformer, tokens: Tensor) -> Tensor:
    """CLIP's own final LayerNorm and projection: tokens of shape (..., C) to features (..., D)."""
    return visual.ln_post(tokens) @ visual.proj


def embed_patches(visual: VisionTransformer, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """The ViT's stem.

    Args:
        visual: open_clip's ViT.
        images: normalised, shape (B, 3, H, W).

    Returns:
        tokens of shape (B, N, C), the class token first, and the grid (h, w).

    Raises:
        ValueError: H or W is not a multiple of the patch size.
    """
    height, width = images.shape[-2:]
    side = visual.patch_size[0]
    if height % side or width % side:
        raise ValueError(f"an image of {height} x {width} pixels is not whole patches of {side}")
    x = visual.conv1(images)  # (B, C, h, w)
    grid = (x.shape[2], x.shape[3])
    x = x.flatten(2).transpose(1, 2)  # (B, h * w, C)
    first = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)  # (B, 1, C)
    x = torch.cat([first, x], dim=1)  # (B, N, C)
    return visual.ln_pre(x + position_embeddings(visual, grid).to(x.dtype)), grid


def position_embeddings(visual: VisionTransformer, grid: tuple[int, int]) -> Tensor:
    """Position embeddings for a grid of h x w patches, resized if it is not the grid of training.

    Returns:
        shape (N, C), the class token's first.
    """
    positions = visual.positional_embedding
    if grid == tuple(visual.grid_size):
        return positions
    trained = positions[1:].T.reshape(1, -1, *visual.grid_size)  # (1, C, trained h, trained w)
    # Bicubic without antialiasing, as the paper's release resizes them; open_clip antialiases.
    resized = F.interpolate(trained.float(), size=grid, mode="bicubic")  # (1, C, h, w)
    return torch.cat([positions[:1], resized[0].flatten(1).T.to(positions.dtype)])


def _values(block: nn.Module, x: Tensor) -> Tensor:
    """The values of LN1(x), shape (B, N, C): the last third of the joint input projection."""
    attn, width = block.attn, x.shape[-1]
    bias = attn.in_proj_bias[2 * width :] if attn.in_proj_bias is not None else None
    return F.linear(block.ln_1(x), attn.in_proj_weight[2 * width :], bias)
