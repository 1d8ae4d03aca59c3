"""Which models parse captions: presets, hub ids and local folders, and what makes each the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from parsing import embedded_model
from parsing.errors import UserError
from parsing.quiet import without_warnings


@dataclass(frozen=True)
class Model:
    """An LLM and how it wants to be spoken to.

    Attributes:
        source: hub id or local folder; `embedded_model.NAME` for the embedded model.
        revision: branch, tag or commit on the hub; None takes the newest.
        conversation: a conversation form of `parsing.prompt`, for models whose tokenizer has no
            chat template; None goes by the tokenizer.
        tensor_parallel: GPUs that one engine spans.
    """

    source: str
    revision: str | None = None
    conversation: str | None = None
    tensor_parallel: int = 1

    @property
    def is_embedded(self) -> bool:
        return self.source == embedded_model.NAME

    def folder(self) -> str:
        """What vLLM and transformers load; makes the embedded model's folder on this machine.

        Raises:
            UserError: the embedded model cannot be fetched.
        """
        return str(embedded_model.embedded_model()) if self.is_embedded else self.source

    def digest(self) -> str:
        """What tells these weights from others: a commit of the hub, or a hash of local files.

        Raises:
            UserError: there is no such model on disk, in the hub's cache or on the hub, or no
                access to it.
        """
        if self.is_embedded:
            return embedded_model.WHEEL_SHA256
        if Path(self.source).is_dir():
            return _folder_digest(Path(self.source))
        return self._commit()

    def _commit(self) -> str:
        """The hub's commit, which names the folder of its cache that the model lies in."""
        from huggingface_hub import errors as hub
        from huggingface_hub import hf_hub_download

        nothing = f"there is no model '{self.source}': not a local folder, "
        presets = f"(presets: {', '.join(PRESETS)})"
        try:
            with without_warnings():
                config = hf_hub_download(self.source, "config.json", revision=self.revision)
        except hub.GatedRepoError as error:
            raise UserError(
                f"the model '{self.source}' is gated: ask for access on its page of the Hugging "
                "Face hub, then log in with `hf auth login`"
            ) from error
        except hub.RevisionNotFoundError as error:
            raise UserError(f"the model '{self.source}' has no revision {self.revision}") from error
        except hub.LocalEntryNotFoundError as error:
            raise UserError(
                f"{nothing}not in the Hugging Face cache, and the hub cannot be reached {presets}"
            ) from error
        except (OSError, ValueError, hub.EntryNotFoundError) as error:
            raise UserError(f"{nothing}and not on the Hugging Face hub {presets}") from error
        return Path(config).parent.name


PRESETS = {
    "smollm2": Model(embedded_model.NAME),
    # 65 GB of 16-bit weights: two 80 GB cards hold them with cache for some 800 answers at a time.
    "vicuna-33b": Model("lmsys/vicuna-33b-v1.3", conversation="vicuna", tensor_parallel=2),
}


def find_model(name: str, revision: str | None = None, tensor_parallel: int | None = None) -> Model:
    """A preset by its name, else the hub id or local folder of that name."""
    model = PRESETS.get(name) or Model(name, conversation=_usual_conversation(name))
    if revision is not None:
        model = replace(model, revision=revision)
    if tensor_parallel is not None:
        if tensor_parallel < 1:
            raise UserError(f"--tensor-parallel must be at least 1, not {tensor_parallel}")
        model = replace(model, tensor_parallel=tensor_parallel)
    return model


def _usual_conversation(name: str) -> str | None:
    return "vicuna" if "vicuna" in name.lower() else None


def _folder_digest(folder: Path) -> str:
    """SHA-256 over the names, sizes and first MiB of a model's files: 66 GB are not read for it."""
    digest = hashlib.sha256()
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not any(p.name == "config.json" for p in files):
        raise UserError(f"{folder} is not a model: it has no config.json")
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with open(path, "rb") as file:
            digest.update(file.read(1 << 20))
    return digest.hexdigest()
