"""The small CLIP: open_clip's own, in a size that two cores can train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.flags import setting
from workflows.command import at_least
from workflows.shapes.drawing import SIDE
from workflows.shapes.tokenizer import CONTEXT

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
HEAD = 32  # width of an attention head


@dataclass(frozen=True)
class Size:
    """How large the model is.

    Raises:
        UserError: a number below 1, a width that is not whole heads, or a patch that does not divide the
            picture.
    """

    width: int = setting(128, "of the image transformer", metavar="N")
    layers: int = setting(5, "of the image transformer", metavar="N")
    patch: int = setting(8, "pixels of a patch's side", metavar="N")
    text_width: int = setting(96, "of the text transformer", metavar="N")
    text_layers: int = setting(2, "of the text transformer", metavar="N")
    embed_dim: int = setting(96, "of the joint space", metavar="N")

    def __post_init__(self) -> None:
        at_least(self, layers=1, text_layers=1, embed_dim=1)
        for name in ("width", "text_width"):
            value = getattr(self, name)
            if value < HEAD or value % HEAD:
                flag = name.replace("_", "-")
                raise UserError(
                    f"--{flag} is a multiple of {HEAD}, the width of a head, not {value}"
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
    """The ViT's embeddings of pictures that are a part of whole ones; for whole ones, its usual embeddings.

    Args:
        visual: open_clip's ViT.
        images: normalised, shape (n, 3, h, w), of whole patches.
        corner: the part's place in the whole, from 0 (top, left) to 1 (bottom, right).

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
    """Embeddings by open_clip's text transformer, without computing the padding behind the longest text.

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
