"""The projector, all that is trained: gated convolution blocks, and a copy of CLIP's last layer.

Each block is two pre-activated convolutions with a residual connection each:

    x <- x + tanh(gate) * conv3x3(GELU(LayerNorm(x)))

The gates start at 0, so an untrained projector gives CLIP's own patch features.

Shapes: B images, N patches on a grid of h x w, C channels of the ViT, D joint width.
"""

from __future__ import annotations

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, h, w), at each position separately."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(  # (B, h, w, C)
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return x.permute(0, 3, 1, 2)


class GatedConv(nn.Module):
    """x + tanh(gate) * conv(GELU(ChannelNorm(x))), on (B, C, h, w); the gate starts at 0."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm = ChannelNorm(width)
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.gate) * self.conv(F.gelu(self.norm(x)))


class Projector(nn.Module):
    """Patch tokens of the frozen ViT to features in CLIP's joint space.

    Args:
        visual: the ViT whose final LayerNorm and projection are copied and trained.
        blocks: number of gated convolution blocks, of two convolutions each.
        kernel: side of the convolutions, odd: 3 in the paper; 1 for classification on the class token,
            which has no neighbours.

    Raises:
        ValueError: the kernel is even.
    """

    def __init__(self, visual: VisionTransformer, blocks: int = 2, kernel: int = 3):
        super().__init__()
        if kernel % 2 != 1:
            raise ValueError(f"the side of a convolution is odd, not {kernel}")
        width = visual.conv1.out_channels
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(GatedConv(width, kernel), GatedConv(width, kernel))
                for _ in range(blocks)
            )
        )
        self.norm = nn.LayerNorm(width, eps=visual.ln_post.eps)
        self.norm.load_state_dict(visual.ln_post.state_dict())
        self.proj = nn.Parameter(visual.proj.detach().clone())  # (C, D)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Projects tokens.

        Args:
            tokens: shape (B, h * w, C), before the ViT's final LayerNorm.
            grid: (h, w).

        Returns:
            shape (B, h * w, D), not normalised.
        """
        x = tokens.transpose(1, 2).unflatten(-1, grid)  # (B, C, h, w)
        x = self.blocks(x)  # (B, C, h, w)
        return self.norm(x.flatten(2).transpose(1, 2)) @ self.proj  # (B, h * w, D)
