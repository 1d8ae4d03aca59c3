"""The small CLIP: open_clip's own, in a size that two cores can train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from parsing.errors import UserError
from workflows.shapes.drawing import SIDE
from workflows.shapes.tokenizer import CONTEXT

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
HEAD = 32  # width of an attention head


@dataclass(frozen=True)
class Size:
    """How large the model is.

    Attributes:
        width, layers, patch: of the image transformer.
        text_width, text_layers: of the text transformer.
        embed_dim: of the joint space.
    """

    width: int = 128
    layers: int = 5
    patch: int = 8
    text_width: int = 96
    text_layers: int = 2
    embed_dim: int = 96

    def __post_init__(self) -> None:
        for name in ("layers", "text_layers", "embed_dim"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} is at least 1, not {getattr(self, name)}")
        for name in ("width", "text_width"):
            if getattr(self, name) < HEAD or getattr(self, name) % HEAD:
                flag = name.replace("_", "-")
                raise UserError(
                    f"--{flag} is a multiple of {HEAD}, the width of a head, "
                    f"not {getattr(self, name)}"
                )
        if self.patch < 2 or SIDE % self.patch:
            raise UserError(f"--patch {self.patch} does not divide the {SIDE} pixels of a picture")


def configuration(size: Size, words: int) -> dict[str, Any]:
    """What `open_clip_config.json` says, for a tokenizer of so many words."""
    return {
        "model_cfg": {
            "embed_dim": size.embed_dim,
            "vision_cfg": {
                "image_size": SIDE,
                "patch_size": size.patch,
                "width": size.width,
                "layers": size.layers,
                "head_width": HEAD,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": words,
                "width": size.text_width,
                "heads": size.text_width // HEAD,
                "layers": size.text_layers,
                "hf_tokenizer_name": "shapes",  # that it has one: open_clip reads it from the folder
            },
        },
        "preprocess_cfg": {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic"},
    }


def build(size: Size, words: int) -> nn.Module:
    """An untrained open_clip model for a tokenizer of so many words."""
    about = configuration(size, words)
    model = open_clip.CLIP(**about["model_cfg"])
    open_clip.set_model_preprocess_cfg(model, about["preprocess_cfg"] | {"size": SIDE})
    return model


def embed_part(visual: nn.Module, images: Tensor, corner: tuple[float, float]) -> Tensor:
    """What the ViT says of pictures that are a part of whole ones; of whole ones, what it always says.

    Args:
        visual: open_clip's ViT.
        images: normalised, shape (n, 3, h, w), of whole patches.
        corner: where between the top and the bottom, and between left and right, the part lies.

    Returns:
        shape (n, D), not normalised.
    """
    rows, columns = (
        size // patch for size, patch in zip(images.shape[-2:], visual.patch_size, strict=True)
    )
    height, width = visual.grid_size
    top, left = round(corner[0] * (height - rows)), round(corner[1] * (width - columns))
    first, places = visual.positional_embedding[:1], visual.positional_embedding[1:]
    places = places.unflatten(0, (height, width))[top : top + rows, left : left + columns]
    x = visual.conv1(images).flatten(2).transpose(1, 2) + places.flatten(0, 1)
    start = (visual.class_embedding + first).expand(len(x), 1, -1).to(x.dtype)
    x = visual.transformer(visual.ln_pre(torch.cat([start, x], 1)))
    return visual.ln_post(x[:, 0]) @ visual.proj


def embed_texts(model: nn.Module, tokens: Tensor) -> Tensor:
    """What open_clip's text transformer says, without the padding behind the longest text.

    Args:
        model: open_clip's CLIP.
        tokens: int64 of shape (n, context).

    Returns:
        shape (n, D), not normalised.
    """
    ends = tokens.argmax(1)
    longest = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :longest]) + model.positional_embedding[:longest]
    x = model.transformer(x, attn_mask=model.attn_mask[:longest, :longest])
    return model.ln_final(x)[torch.arange(len(x)), ends] @ model.text_projection
