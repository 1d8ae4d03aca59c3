"""What is trained: a head that turns what the frozen encoder sees into features, and the losses."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from training.losses import GROUPVIT, ImageTextLoss, MultiLabelContrastiveLoss, TagLoss
from training.settings import CLASS, Settings
from training.surgery import image_tokens
from training.tag_scores import Positives


class Frozen(NamedTuple):
    """What does not learn, for a batch of B images: the input of the head.

    Attributes:
        tokens: shape (B, N, C); for GroupViT, all of which learns, the images.
        grid: (h, w) with h * w = N.
    """

    tokens: Tensor
    grid: tuple[int, int]


class Encoder(Protocol):
    """A frozen text side, and an image side with a head that learns; see `Clip` and `GroupVit`."""

    name: str
    fingerprint: str
    embed_dim: int
    patch_size: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def encode_texts(self, texts: list[str]) -> Tensor: ...

    def encode_tokens(self, tokens: Tensor) -> Tensor: ...


def frozen_tokens(clip: nn.Module, images: Tensor, settings: Settings) -> Frozen:
    """The frozen part of the image side, without gradient.

    Args:
        clip: a `Clip`.
        images: normalised, shape (B, 3, H, W).
        settings: `path` and `depth`, and `pool`, which says whose tokens they are.
    """
    by_class = settings.pool == CLASS
    with torch.no_grad():
        tokens = image_tokens(clip.visual, images, settings.image_path, class_token=by_class)
    if by_class:
        return Frozen(tokens.class_token.unsqueeze(1), (1, 1))
    return Frozen(tokens.patches, tokens.grid)


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 of shape (B, H, W, 3) to the float32 images (B, 3, H, W) that an encoder takes."""
    mean = torch.tensor(mean, device=pixels.device) * 255
    std = torch.tensor(std, device=pixels.device) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


class Terms(NamedTuple):
    """The loss of Eq. 6 and its two terms, before their weights; shape () each, 0 if left out."""

    total: Tensor
    tag: Tensor
    text: Tensor


class TagAlign(nn.Module):
    """The head and the losses with their temperatures: all that has a gradient.

    Args:
        head: called with the parts of `Frozen`, gives features of shape (B, N', D).
        settings: which losses.
        frequencies: of the T tags, shape (T,).
        groups: of the T tags, see `TagLoss`; None where they share one softmax.
    """

    def __init__(
        self, head: nn.Module, settings: Settings, frequencies: Tensor, groups: Tensor | None
    ):
        super().__init__()
        self.head = head
        self.tag_weight, self.text_weight = settings.tag_weight, settings.text_weight
        self.tag_loss = self.text_loss = None
        if settings.tag_weight:
            self.tag_loss = (
                MultiLabelContrastiveLoss()
                if settings.tag_loss == GROUPVIT
                else TagLoss(settings.tag_loss, frequencies, groups)
            )
        if settings.text_weight:
            self.text_loss = ImageTextLoss()

    def forward(
        self,
        frozen: Frozen,
        tags: Tensor,
        positives: Positives,
        denominators: Tensor,
        texts: Tensor,
        share: float,
    ) -> Terms:
        """Eq. 6 of one micro-batch.

        Args:
            frozen: of its images.
            tags: unit vectors, shape (T, D).
            positives: of its images.
            denominators: of the whole batch, see `TagLoss.forward`.
            texts: embeddings of the captions, shape (B, D).
            share: this micro-batch's part of the rank's images; the sum of the micro-batches'
                losses is the rank's.
        """
        images = self.head(*frozen).float().mean(dim=1)
        tag = text = images.new_zeros(())
        if self.tag_loss is not None:
            tag = self.tag_loss(images, tags, positives, denominators)
        if self.text_loss is not None:
            text = self.text_loss(images, texts) * share
        return Terms(self.tag_weight * tag + self.text_weight * text, tag, text)

    def temperatures(self) -> dict[str, Tensor]:
        """T of each loss that there is."""
        losses = {"tag": self.tag_loss, "text": self.text_loss}
        return {
            name: 1 / loss.temperature().detach()
            for name, loss in losses.items()
            if loss is not None
        }
