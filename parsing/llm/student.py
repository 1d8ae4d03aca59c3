"""`tagalign-135m`: the student that comes with the project, SmolLM2-135M-Instruct with a LoRA adapter.

`tagalign_135m/` holds the adapter, the prompt, the provenance and the card. `parsing/distill.py`
made them; the card names the command.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import lru_cache
from pathlib import Path

from parsing.llm import embedded_model

NAME = "tagalign-135m"
FOLDER = Path(__file__).with_name("tagalign_135m")
WEIGHTS = "adapter_model.safetensors"


@lru_cache(1)
def digest() -> str:
    """SHA-256 of the adapter and of the model it belongs to, in hex."""
    found = hashlib.sha256(embedded_model.WHEEL_SHA256.encode())
    for name in (WEIGHTS, "adapter_config.json"):
        found.update((FOLDER / name).read_bytes())
    return found.hexdigest()


def student_model() -> Path:
    """The folder of the whole model, merged on the first call; safe to call from many processes.

    Raises:
        UserError: as `embedded_model.embedded_model`.
    """
    base = embedded_model.embedded_model()
    return embedded_model.cached(f"{NAME}-{digest()[:12]}", lambda aside: _merge(base, aside))


def _merge(base: Path, aside: Path) -> None:
    from parsing.llm.adapters import merge_adapter

    merge_adapter(str(base), FOLDER, aside / "model")
    for file in base.iterdir():
        if not (aside / "model" / file.name).exists():
            shutil.copyfile(file, aside / "model" / file.name)
