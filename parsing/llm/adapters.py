"""LoRA adapters: small matrices that are added to a model's weights."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def merge_adapter(base: str, adapter: Path, output: Path, revision: str | None = None) -> None:
    """Adds a LoRA adapter's weights to its base model's and writes the sum in bfloat16.

    Args:
        base, revision: hub id or folder of the base model.
        adapter: folder of the adapter.
        output: folder for the weights and their configuration.
    """
    model = AutoModelForCausalLM.from_pretrained(base, revision=revision, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged.to(torch.bfloat16).save_pretrained(output)
