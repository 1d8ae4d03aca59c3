"""GroupViT (arXiv 2202.11094) behind the same losses, for Table 7.

Its text side is frozen and embeds tags and captions; its whole image side is trained. The feature of an
image is the mean of its groups, as in GroupViT.

Shapes: B images, H x W pixels, N patches on a grid of h x w, G groups, C channels, D joint width,
n texts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import xxhash
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError

PREFIX = "groupvit:"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as GroupViT was trained
TEXT_BATCH = 256


class GroupVit(nn.Module):
    """A frozen GroupViT with the attributes of `training.clip.Clip`."""

    def __init__(self, model: nn.Module, tokenizer, name: str, mean=MEAN, std=STD):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.name = name
        vision = model.config.vision_config
        self.embed_dim: int = model.config.projection_dim
        self.patch_size: int = vision.patch_size
        self.image_size: int = vision.image_size
        self.mean, self.std = tuple(mean), tuple(std)
        digest = xxhash.xxh3_128()
        for key, tensor in sorted(model.state_dict().items()):
            digest.update(f"{key} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
        self.fingerprint = digest.hexdigest()

    def train(self, mode: bool = True) -> GroupVit:
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    def tokenizer(self, texts: list[str]) -> Tensor:
        """Tokens of n texts: int64 of shape (n, context length)."""
        length = self.model.config.text_config.max_position_embeddings
        return self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )["input_ids"]

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit-length text embeddings, float32 of shape (n, D)."""
        if not texts:
            return torch.zeros(0, self.embed_dim, device=self.device)
        batches = [list(texts[i : i + TEXT_BATCH]) for i in range(0, len(texts), TEXT_BATCH)]
        return torch.cat(
            [self.encode_tokens(self.tokenizer(batch).to(self.device)) for batch in batches]
        )

    @torch.no_grad()
    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """As `encode_texts`, for tokens of shape (n, context length).

        Padding needs no mask: the output is that of the end token, which attends to no later token.
        """
        pooled = self.model.text_model(input_ids=tokens.long()).pooler_output  # (n, C)
        return F.normalize(self.model.text_projection(pooled).float(), dim=-1)

    def head(self) -> GroupVitHead:
        """A copy of the image side, to be trained."""
        return GroupVitHead(self.model)


class GroupVitHead(nn.Module):
    """The image side: images of shape (B, 3, H, W) to features in the joint space."""

    def __init__(self, model: nn.Module):
        super().__init__()
        copy = type(model)(model.config)
        copy.load_state_dict(model.state_dict())
        self.vision = copy.vision_model.requires_grad_(True)
        self.projection = copy.visual_projection.requires_grad_(True)

    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """The projected mean of the groups, shape (B, 1, D); `grid` is not read."""
        groups, _ = self._groups(images)  # (B, G, C)
        return self.projection(groups.mean(dim=1)).unsqueeze(1)

    def dense(self, images: Tensor) -> Tensor:
        """The feature of each patch: the mean of its groups' features, weighted by its assignment.

        Args:
            images: shape (B, 3, H, W), H and W multiples of the patch size.

        Returns:
            shape (B, h, w, D).
        """
        groups, assignments = self._groups(images)  # (B, G, C)
        features = self.projection(groups.flatten(0, 1)).unflatten(0, groups.shape[:2])  # (B, G, D)
        weights = None  # (B, G, N) at the end: the product of the stages' assignments
        for assignment in assignments:
            weights = assignment if weights is None else assignment @ weights
        side = self.vision.embeddings.patch_size
        grid = (images.shape[2] // side, images.shape[3] // side)
        return (weights.transpose(1, 2) @ features).unflatten(1, grid)  # (B, h, w, D)

    def _groups(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Group tokens (B, G, C), and each stage's soft assignment (B, its groups, its input tokens)."""
        x = self.vision.embeddings(images, interpolate_pos_encoding=True)  # (B, N, C)
        out = self.vision.encoder(
            x, output_hidden_states=False, output_attentions=True, return_dict=True
        )
        return self.vision.layernorm(out.last_hidden_state), list(out.attentions)


def load_groupvit(name: str, device: torch.device | str = "cpu") -> GroupVit:
    """Loads `groupvit:NAME`, NAME a model of the Hugging Face hub or a local folder.

    Raises:
        UserError: it cannot be loaded, or is not a GroupViT.
    """
    from transformers import AutoConfig, CLIPTokenizerFast, GroupViTModel

    place = name.removeprefix(PREFIX)
    try:
        kind = AutoConfig.from_pretrained(place).model_type
        if kind != "groupvit":
            raise UserError(f"{place} is a {kind}, not a GroupViT")
        model = GroupViTModel.from_pretrained(place, dtype=torch.float32)
        tokenizer = CLIPTokenizerFast.from_pretrained(place)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"cannot load the GroupViT {place}: {str(error).splitlines()[0]}"
        ) from error
    mean, std = MEAN, STD
    settings = Path(place) / "preprocessor_config.json"
    if settings.is_file():
        values = json.loads(settings.read_text())
        mean, std = values.get("image_mean", MEAN), values.get("image_std", STD)
    return GroupVit(model, tokenizer, name, mean, std).to(device)
