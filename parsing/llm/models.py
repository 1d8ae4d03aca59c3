"""Which models parse captions: presets, hub ids and local folders, and what makes each the same."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.errors import UserError, reason
from common.quiet import without_warnings
from parsing.llm import embedded_model, student

PROMPT = "prompt.yaml"  # in a model's folder: the prompt that the model was trained with
PROVENANCE = "tagalign.json"  # in a student's folder: what it was trained on, and how
ADAPTER = "adapter"  # in a student's folder: the LoRA weights alone
# Of a weight file, bytes: one up to this size is hashed whole, a larger one in so many parts of a size.
_WHOLE, _PARTS, _PART = 16 << 20, 256, 16 << 10


@dataclass(frozen=True)
class Model:
    """A model and its chat format.

    Attributes:
        source: hub id or local folder; `embedded_model.NAME` or `student.NAME` for the models that
            come with the project.
        revision: branch, tag or commit on the hub; None takes the newest.
        conversation: a layout of `parsing.llm.prompt`, for models whose tokenizer has no chat
            template; None goes by the tokenizer.
        tensor_parallel: GPUs that one engine spans.
        expected: the digest that the model must have wherever it is loaded; None takes any.
    """

    source: str
    revision: str | None = None
    conversation: str | None = None
    tensor_parallel: int = 1
    expected: str | None = None

    def folder(self) -> str:
        """What vLLM and transformers load; makes the folder of a model that comes with the project.

        Raises:
            UserError: that model cannot be fetched or written.
        """
        if self.source in _MADE_HERE:
            return str(_MADE_HERE[self.source]())
        return self.source

    def digest(self) -> str:
        """What tells these weights from others: a commit of the hub, or a hash of local files.

        Raises:
            UserError: there is no such model on disk, in the hub's cache or on the hub, or no
                access to it.
        """
        if self.source == embedded_model.NAME:
            return embedded_model.WHEEL_SHA256
        if self.source == student.NAME:
            return student.digest()
        if Path(self.source).is_dir():
            return _folder_digest(Path(self.source))
        return self._commit()

    def pinned(self) -> Model:
        """The same model as it is now: its commit for a revision, its digest to be compared.

        Raises:
            UserError: as `digest`.
        """
        digest = self.digest()
        of_hub = self.source not in _MADE_HERE and not Path(self.source).is_dir()
        return replace(self, revision=digest if of_hub else self.revision, expected=digest)

    def check(self) -> None:
        """Looks whether the model is here, and is the one that is expected.

        Raises:
            UserError: as `digest`; or it is another one.
        """
        digest = self.digest()
        if self.expected not in (None, digest):
            raise UserError(
                f"the model {self.source} on {socket.gethostname()} is not the one that this run began "
                f"with: its digest is {digest[:12]} instead of {self.expected[:12]}; copy the same "
                "files to every node"
            )

    def file(self, name: str) -> Path | None:
        """A file of the model's folder, fetched from the hub where need be; None if it has none."""
        if self.source == student.NAME:
            path = student.FOLDER / name
        elif self.source == embedded_model.NAME:
            return None
        elif Path(self.source).is_dir():
            path = Path(self.source) / name
        else:
            return _hub_file(self.source, name, self.revision)
        return path if path.is_file() else None

    def provenance(self) -> dict[str, Any] | None:
        """What a student was trained on, and how; None for any other model.

        Raises:
            UserError: the file that says so is damaged, or another file of the folder is missing or
                has another size than when it was written.
        """
        path = self.file(PROVENANCE)
        if path is None:
            return None
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the provenance {path}: {reason(error)}") from error
        if Path(self.source).is_dir():
            _check_sizes(Path(self.source), about.get("files", {}))
        return about

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


_MADE_HERE = {
    embedded_model.NAME: embedded_model.embedded_model,
    student.NAME: student.student_model,
}

PRESETS = {
    student.NAME: Model(student.NAME),
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


@lru_cache(64)
def _hub_file(source: str, name: str, revision: str | None) -> Path | None:
    """A file of a model on the hub; None if the model has none. Asks the hub once per process."""
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    try:
        with without_warnings():
            return Path(hf_hub_download(source, name, revision=revision))
    except (OSError, ValueError, hub.EntryNotFoundError):
        return None


def _usual_conversation(name: str) -> str | None:
    return "vicuna" if "vicuna" in name.lower() else None


def _check_sizes(folder: Path, files: dict[str, int]) -> None:
    for name, size in files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise UserError(
                f"the student {folder} is incomplete: {name} has {found:,} of {size:,} bytes; copy "
                "it again, or train it again"
            )


def _folder_digest(folder: Path) -> str:
    """SHA-256 over the names, sizes and samples of a model's files: 66 GB are not read for it."""
    digest = hashlib.sha256()
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not any(p.name == "config.json" for p in files):
        raise UserError(f"{folder} is not a model: it has no config.json")
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with open(path, "rb") as file:
            for at, length in _samples(size):
                file.seek(at)
                digest.update(file.read(length))
    return digest.hexdigest()


def _samples(size: int) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of a file that are hashed: all of a small one, else parts all over it.

    Two trainings of one model agree in whatever was not trained, such as the embeddings, which are
    the first tens of megabytes of a file: its beginning tells nothing.
    """
    if size <= _WHOLE:
        yield 0, size
        return
    yield 0, 1 << 20
    for part in range(1, _PARTS + 1):
        yield (size - _PART) * part // _PARTS, _PART
