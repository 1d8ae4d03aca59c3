"""A CLIP of random weights, whose time and memory are those of a trained one."""

from __future__ import annotations

import open_clip
import torch

from training.clip import Clip

MODEL = "ViT-B-16"


def random_clip(name: str = MODEL, seed: int = 0) -> Clip:
    """A model by open_clip's name, with random weights and its own tokenizer.

    Raises:
        RuntimeError: open_clip knows no such model.
    """
    torch.manual_seed(seed)
    model = open_clip.create_model(name, load_weights=False)
    return Clip(model, open_clip.get_tokenizer(name), f"random {name}")
