"""What is trained: a head that turns what the frozen encoder sees into features, and the losses."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.clip import Clip, load_clip
from training.groupvit import PREFIX as GROUPVIT_PREFIX
from training.groupvit import GroupVit, load_groupvit
from training.losses import GROUPVIT, ImageTextLoss, MultiLabelContrastiveLoss, TagLoss
from training.projector import Projector
from training.settings import CLASS, Settings
from training.surgery import image_tokens
from training.tag_scores import Positives

Encoder = Clip | GroupVit


def load_encoder(settings: Settings, device: torch.device | str = "cpu") -> Encoder:
    """The encoder that the settings name.

    Raises:
        UserError: see `load_clip` and `load_groupvit`.
    """
    if settings.model.startswith(GROUPVIT_PREFIX):
        return load_groupvit(settings.model, device)
    return load_clip(settings.model, settings.weights, device, settings.quick_gelu)


def make_head(encoder: Encoder, settings: Settings) -> nn.Module:
    """The part of the image side that learns, as it is before training."""
    if isinstance(encoder, GroupVit):
        return encoder.head()
    return Projector(encoder.visual, settings.blocks, settings.kernel)


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 of shape (B, H, W, 3) to the float32 images (B, 3, H, W) that an encoder takes."""
    mean = torch.tensor(mean, device=pixels.device) * 255
    std = torch.tensor(std, device=pixels.device) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


class Frozen(NamedTuple):
    """What does not learn, for a batch of B images: the input of the head.

    Attributes:
        tokens: shape (B, N, C); for GroupViT, all of which learns, the images.
        grid: (h, w) with h * w = N.
    """

    tokens: Tensor
    grid: tuple[int, int]


def frozen_tokens(encoder: Encoder, images: Tensor, settings: Settings) -> Frozen:
    """The frozen part of the image side, without gradient.

    Args:
        encoder: which.
        images: normalised, shape (B, 3, H, W).
        settings: `path` and `depth`, and `pool`, which says whose tokens they are.
    """
    if isinstance(encoder, GroupVit):
        return Frozen(images, (0, 0))
    by_class = settings.pool == CLASS
    with torch.no_grad():
        tokens = image_tokens(encoder.visual, images, settings.image_path, class_token=by_class)
    if by_class:
        return Frozen(tokens.class_token.unsqueeze(1), (1, 1))
    return Frozen(tokens.patches, tokens.grid)


class Terms(NamedTuple):
    """The loss of Eq. 6 and its two terms, before their weights; shape () each, 0 if left out."""

    total: Tensor
    tag: Tensor
    text: Tensor


class Objective(nn.Module):
    """Eq. 6: w_tag * L_tag + w_text * L_itc; a loss of weight 0 is not there at all.

    Args:
        settings: which losses, and their weights.
        frequencies: of the T tags, shape (T,).
        groups: of the T tags, see `TagLoss`; None where they share one softmax.
    """

    def __init__(self, settings: Settings, frequencies: Tensor, groups: Tensor | None):
        super().__init__()
        self.tag_weight, self.text_weight = settings.tag_weight, settings.text_weight
        self.tag = self.text = None
        if self.tag_weight and settings.tag_loss == GROUPVIT:
            self.tag = MultiLabelContrastiveLoss()
        elif self.tag_weight:
            self.tag = TagLoss(settings.tag_loss, frequencies, groups)
        if self.text_weight:
            self.text = ImageTextLoss()

    def forward(
        self,
        images: Tensor,
        tags: Tensor,
        positives: Positives,
        denominators: Tensor,
        texts: Tensor,
    ) -> Terms:
        """The losses of this rank's B images, whose mean over ranks is the batch's loss.

        Args:
            images: features, shape (B, D).
            tags: unit vectors, shape (T, D).
            positives: of the images.
            denominators: of the whole batch by the number of ranks, see `TagLoss.forward`.
            texts: embeddings of the captions, shape (B, D).
        """
        tag = text = images.new_zeros(())
        if self.tag is not None:
            tag = self.tag(images, tags, positives, denominators)
        if self.text is not None:
            text = self.text(images, texts)
        return Terms(self.tag_weight * tag + self.text_weight * text, tag, text)

    def temperatures(self) -> dict[str, Tensor]:
        """T of each loss that there is."""
        losses = {"tag": self.tag, "text": self.text}
        return {
            name: 1 / loss.temperature().detach()
            for name, loss in losses.items()
            if loss is not None
        }


class TagAlign(nn.Module):
    """All that has a gradient.

    Attributes:
        head: called with the parts of `Frozen`, gives features of shape (B, N', D).
        objective: the losses with their temperatures.
    """

    def __init__(self, head: nn.Module, objective: Objective):
        super().__init__()
        self.head = head
        self.objective = objective
