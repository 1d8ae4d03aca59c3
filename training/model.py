"""The trained modules: a head on the frozen encoder's tokens, and the losses of Eq. 6.

Shapes: B images, H x W pixels, N patches on a grid of h x w, C channels of the encoder, D joint width,
T tags.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.chunked_losses import Positives
from training.clip import Clip, load_clip
from training.groupvit import PREFIX as GROUPVIT_PREFIX
from training.groupvit import GroupVit, load_groupvit
from training.losses import GROUPVIT, ImageTextLoss, MultiLabelContrastiveLoss, TagLoss
from training.projector import Projector
from training.settings import CLASS, IMAGENET, Settings
from training.surgery import image_tokens

Encoder = Clip | GroupVit
Colours = tuple[float, ...]  # one value for each channel
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_encoder(settings: Settings, device: torch.device | str = "cpu") -> Encoder:
    """The encoder that the settings name.

    Raises:
        UserError: see `load_clip` and `load_groupvit`.
    """
    if settings.model.startswith(GROUPVIT_PREFIX):
        return load_groupvit(settings.model, device)
    return load_clip(settings.model, settings.weights, device, settings.quick_gelu)


def make_head(encoder: Encoder, settings: Settings) -> nn.Module:
    """The trained part of the image side, with its initial weights."""
    if isinstance(encoder, GroupVit):
        return encoder.head()
    return Projector(encoder.visual, settings.blocks, settings.kernel)


def mean_and_std(encoder: Encoder, normalisation: str) -> tuple[Colours, Colours]:
    """Of each colour channel, for pixels in [0, 1].

    Args:
        encoder: GroupViT has its own whatever is asked for, and they are ImageNet's.
        normalisation: `imagenet`, or `clip`, the encoder's own.
    """
    if normalisation == IMAGENET and isinstance(encoder, Clip):
        return IMAGENET_MEAN, IMAGENET_STD
    return encoder.mean, encoder.std


def normalise(pixels: Tensor, mean: Colours, std: Colours) -> Tensor:
    """Pixels to an encoder's images: uint8 of shape (B, H, W, 3) to float32 of shape (B, 3, H, W)."""
    # Copies that don't wait, as the host would else stop at every step.
    mean, std = (
        (torch.tensor(values) * 255).to(pixels.device, non_blocking=True) for values in (mean, std)
    )  # (3,) each
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)  # (B, 3, H, W)


class Frozen(NamedTuple):
    """The input of the head, which has no gradient.

    Attributes:
        tokens: shape (B, N, C); for GroupViT, whose whole image side is trained, the images.
        grid: (h, w) with h * w = N.
    """

    tokens: Tensor
    grid: tuple[int, int]


def frozen_tokens(encoder: Encoder, images: Tensor, settings: Settings) -> Frozen:
    """The frozen part of the image side, without gradient.

    Args:
        encoder: the frozen model.
        images: normalised, shape (B, 3, H, W).
        settings: `path` and `depth`; `pool` chooses patch tokens or the class token (then N is 1).
    """
    if isinstance(encoder, GroupVit):
        return Frozen(images, (0, 0))
    by_class = settings.pool == CLASS
    with torch.no_grad():
        tokens = image_tokens(encoder.visual, images, settings.image_path, class_token=by_class)
    if by_class:
        return Frozen(tokens.class_token.unsqueeze(1), (1, 1))  # (B, 1, C)
    return Frozen(tokens.patches, tokens.grid)  # (B, N, C)


class Terms(NamedTuple):
    """The loss of Eq. 6 and its two terms, before their weights; shape () each, 0 if left out."""

    total: Tensor
    tag: Tensor
    text: Tensor


class Objective(nn.Module):
    """Eq. 6: w_tag * L_tag + w_text * L_itc; a loss of weight 0 is not computed.

    Args:
        settings: which losses, and their weights.
        frequencies: of the T tags, shape (T,).
        groups: of the T tags, shape (T,), see `TagLoss`; None for a single softmax.
    """

    def __init__(self, settings: Settings, frequencies: Tensor, groups: Tensor | None):
        super().__init__()
        self.tag_weight, self.text_weight = settings.tag_weight, settings.text_weight
        self.tag = self.text = None
        if self.tag_weight and settings.tag_loss == GROUPVIT:
            self.tag = MultiLabelContrastiveLoss()
        elif self.tag_weight:
            self.tag = TagLoss(settings.tag_loss, frequencies, groups, settings.least_probability)
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
        """The losses of this rank's B images; their mean over ranks is the loss of the batch.

        Args:
            images: features, shape (B, D).
            tags: unit vectors, shape (T, D).
            positives: of the images.
            denominators: those of the whole batch divided by the number of ranks, see
                `TagLoss.forward`.
            texts: embeddings of the captions, shape (B, D).
        """
        tag = text = images.new_zeros(())  # ()
        if self.tag is not None:
            tag = self.tag(images, tags, positives, denominators)
        if self.text is not None:
            text = self.text(images, texts)
        return Terms(self.tag_weight * tag + self.text_weight * text, tag, text)

    def temperatures(self) -> dict[str, Tensor]:
        """The temperature of each loss that is computed, by `tag` or `text`."""
        losses = {"tag": self.tag, "text": self.text}
        return {
            name: 1 / loss.temperature().detach()
            for name, loss in losses.items()
            if loss is not None
        }


class TagAlign(nn.Module):
    """Everything that is trained.

    Attributes:
        head: `head(tokens, grid)` of `Frozen` gives features of shape (B, N, D); GroupViT's (B, 1, D).
        objective: the losses with their temperatures.
    """

    def __init__(self, head: nn.Module, objective: Objective):
        super().__init__()
        self.head = head
        self.objective = objective
