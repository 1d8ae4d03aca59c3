"""Patch features in CLIP's joint space, of a trained run or of plain CLIP.

    from training.dense import load_dense

    dense = load_dense("data/runs/tagalign")          # or "clip", "surgery", "naclip", ...
    names = dense.encode_texts(["a photo of a cat"])  # (n, D), unit length
    features = dense(images)                          # (B, h, w, D), unit length
    similarity = features @ names.T                   # (B, h, w, n), cosine

Images are float32 of shape (B, 3, H, W), where H and W are multiples of `dense.patch_size`, normalised
with `dense.mean` and `dense.std` (`training.model.normalise` does it from uint8).

Shapes: B images, H x W pixels, a grid of h x w patches, D joint width, n texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError
from common.storage import Folder
from training.clip import MODEL, WEIGHTS, load_clip
from training.groupvit import GroupVit
from training.model import Encoder, load_encoder, make_head, mean_and_std
from training.runs import PROJECTOR, load_trained, read_settings, read_trained
from training.settings import CLIP_OWN, Settings
from training.surgery import MODES, NONE, ImagePath, image_tokens, plain_features

BASELINES = {"clip": NONE} | {mode: mode for mode in MODES if mode != NONE}


class Dense(nn.Module):
    """An encoder and, for a run, its trained head; frozen and always in eval mode.

    Attributes:
        name: of the run or the baseline.
        encoder: `Clip` or `GroupVit`.
        head: the trained weights; None for plain CLIP.
        path: how patch tokens are read.
        settings: of the run; None for plain CLIP.
        step: number of steps that the head was trained for.
        normalisation: `imagenet` or `clip`, which `mean` and `std` are those of.
        mean, std: of each colour channel, for pixels in [0, 1].
        patch_size, image_size, embed_dim: the encoder's.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        head: nn.Module | None = None,
        path: ImagePath | None = None,
        settings: Settings | None = None,
        step: int = 0,
        normalisation: str = CLIP_OWN,
    ):
        super().__init__()
        self.name, self.path, self.settings, self.step = name, path or ImagePath(), settings, step
        self.encoder = encoder
        self.head = head.requires_grad_(False) if head is not None else None
        self.normalisation = normalisation
        self.mean, self.std = mean_and_std(encoder, normalisation)
        self.patch_size, self.image_size = encoder.patch_size, encoder.image_size
        self.embed_dim = encoder.embed_dim
        self.eval()

    def train(self, mode: bool = True) -> Dense:
        return super().train(False)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit-length embeddings, float32 of shape (n, D)."""
        return self.encoder.encode_texts(texts)

    def forward(self, images: Tensor) -> Tensor:
        """Features of the trained head, or CLIP's own without a head, by patch.

        Args:
            images: normalised, float32 of shape (B, 3, H, W).

        Returns:
            float32 of shape (B, h, w, D), unit length.
        """
        return self.both(images)[0]

    @torch.no_grad()
    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Trained features and CLIP's own features of the same tokens, which Eq. 7 blends.

        The encoder runs once. Without a head, and for GroupViT, both are the same.

        Args:
            images: normalised, float32 of shape (B, 3, H, W).

        Returns:
            two tensors: float32 of shape (B, h, w, D), unit length.
        """
        if isinstance(self.encoder, GroupVit):
            head = self.head if self.head is not None else self.encoder.head().eval()
            trained = F.normalize(head.dense(images).float(), dim=-1)  # (B, h, w, D)
            return trained, trained
        tokens = image_tokens(self.encoder.visual, images, self.path, class_token=False)
        plain = plain_features(self.encoder.visual, tokens.patches)  # (B, h * w, D)
        plain = F.normalize(plain.float(), dim=-1).unflatten(1, tokens.grid)  # (B, h, w, D)
        if self.head is None:
            return plain, plain
        trained = F.normalize(
            self.head(tokens.patches, tokens.grid).float(), dim=-1
        )  # (B, h * w, D)
        return trained.unflatten(1, tokens.grid), plain


def load_dense(
    run: str,
    device: torch.device | str = "cpu",
    model: str | None = None,
    weights: str | None = None,
    quick_gelu: bool | None = None,
    normalisation: str | None = None,
) -> Dense:
    """Loads a trained run, or an untrained baseline.

    Args:
        run: a run's folder; or one of `BASELINES`: CLIP's own features, along the image path of that
            name (`none` for `clip`).
        device: where the model goes.
        model, weights, quick_gelu: see `load_clip`. None takes those of the run, or the paper's for a
            baseline.
        normalisation: of pixels, `imagenet` or `clip`. None takes the one that a run was trained with
            (`clip` if it doesn't say, as runs did then), and CLIP's own for a baseline.

    Raises:
        UserError: no such run, a damaged one, one that has saved nothing yet, or one that was trained
            on another model.
    """
    if run in BASELINES:
        encoder = load_clip(
            model or MODEL, weights or (None if model else WEIGHTS), device, quick_gelu
        )
        path = ImagePath(BASELINES[run])
        return Dense(run, encoder, path=path, normalisation=normalisation or CLIP_OWN).to(device)
    folder = Folder(run)
    settings, origin = read_settings(folder)
    if model is not None:
        settings = replace(settings, model=model, weights=weights, quick_gelu=quick_gelu)
    elif weights is not None:
        settings = replace(settings, weights=weights, quick_gelu=quick_gelu)
    tensors, step = read_trained(folder)
    encoder = load_encoder(settings, device)
    if encoder.fingerprint != origin.encoder_fingerprint:
        raise UserError(
            f"the run {run} was trained on another model ({origin.encoder}) than {encoder.name}"
        )
    head = make_head(encoder, settings).to(device)
    load_trained(head, tensors, "head.", folder.path(PROJECTOR))
    normalisation = normalisation or settings.normalisation
    return Dense(run, encoder, head, settings.image_path, settings, step, normalisation).to(device)
