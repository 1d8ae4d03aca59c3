"""A run's folder: its settings, its checkpoint, and the trained weights alone for the evaluator.

    data/runs/NAME/
        settings.json            every setting, and the model and data of the run
        checkpoint.safetensors   weights, optimiser, step, random state: for --resume
        projector.safetensors    weights and temperatures: for the evaluator
        metrics.jsonl            one line per logged step
        tensorboard/

Each file is renamed once it is complete, so the last good checkpoint survives a full disk.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as write_safetensors
from torch import Tensor, nn

from common.errors import UserError
from common.storage import Folder
from training.clip import not_finite
from training.settings import CLIP_OWN, Settings

CHECKPOINT = "checkpoint.safetensors"
PROJECTOR = "projector.safetensors"
SETTINGS = "settings.json"
_LONGEST_HEAD = 100 << 20  # bytes, safetensors' own limit
# What a run did that was made before a setting was there, where it is not the setting's default.
BEFORE = {"normalisation": CLIP_OWN}


@dataclass(frozen=True)
class Origin:
    """What a checkpoint must match to be resumed, besides `Settings.fixed`.

    Attributes:
        encoder: its name, for messages; need not match.
        encoder_fingerprint: of its weights.
        vocabulary: fingerprint of the tags and their frequencies.
        tags: T, the number of tags.
        images: number of labelled images.
    """

    encoder: str
    encoder_fingerprint: str
    vocabulary: str
    tags: int
    images: int


@dataclass(frozen=True)
class Checkpoint:
    """The state from which a run is resumed.

    Attributes:
        step: number of steps made.
        seen: number of items of the stream that were read, the sampler's position.
        model: `state_dict()` of the trained modules.
        optimiser: its `state_dict()`.
        random: for every rank, the state of its CPU generator, and of its GPU's if it has one.
    """

    step: int
    seen: int
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    random: list[dict[str, Tensor]]


def save_settings(folder: Folder, settings: Settings, origin: Origin) -> None:
    """Writes `settings.json`."""
    folder.write_json(SETTINGS, {"settings": settings.to_json(), "origin": asdict(origin)})


def save_checkpoint(
    folder: Folder, checkpoint: Checkpoint, settings: Settings, origin: Origin
) -> None:
    """Writes the checkpoint and the trained weights; earlier files stay until these are complete.

    Raises:
        UserError: no room or no permission.
    """
    tensors = {f"model.{name}": tensor for name, tensor in checkpoint.model.items()}
    for index, state in checkpoint.optimiser["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    for rank, states in enumerate(checkpoint.random):
        tensors |= {f"random.{rank}.{device}": state for device, state in states.items()}
    metadata = {
        "step": checkpoint.step,
        "seen": checkpoint.seen,
        "groups": checkpoint.optimiser["param_groups"],
        "settings": settings.fixed(),
        "origin": asdict(origin),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    folder.write(CHECKPOINT, write_safetensors(tensors, {"about": json.dumps(metadata)}))
    trained = {name: tensors[f"model.{name}"] for name in checkpoint.model}
    metadata = {"step": checkpoint.step, "origin": asdict(origin)}
    folder.write(PROJECTOR, write_safetensors(trained, {"about": json.dumps(metadata)}))


def read_checkpoint(folder: Folder, settings: Settings, origin: Origin) -> Checkpoint:
    """Reads the checkpoint of a run with these settings.

    Raises:
        UserError: it is damaged, or belongs to another model, vocabulary, set of images or settings.
    """
    place = folder.path(CHECKPOINT)
    tensors, metadata = _read(folder, CHECKPOINT)
    made_from = Origin(**metadata["origin"])
    if made_from.encoder_fingerprint != origin.encoder_fingerprint:
        raise UserError(
            f"the checkpoint {place} was trained on another model ({made_from.encoder}) "
            f"than {origin.encoder}"
        )
    if made_from.vocabulary != origin.vocabulary:
        raise UserError(
            f"the checkpoint {place} was trained on another vocabulary ({made_from.tags:,} tags) "
            f"than that of {settings.labels} ({origin.tags:,} tags)"
        )
    if made_from.images != origin.images:
        raise UserError(
            f"the checkpoint {place} was trained on {made_from.images:,} labelled images, "
            f"and now there are {origin.images:,}"
        )
    defaults = {field.name: field.default for field in fields(Settings)} | BEFORE
    for key, now in settings.fixed().items():
        then = metadata["settings"].get(key, defaults[key])
        if then != now:
            raise UserError(
                f"the checkpoint {place} was trained with {key} {then}, not {now}: "
                "give the same settings, or the run another --name"
            )
    state: dict[int, dict[str, Tensor]] = {}
    random: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        number, _, key = rest.partition(".")
        if kind == "optimiser":
            state.setdefault(int(number), {})[key] = tensor
        elif kind == "random":
            random.setdefault(int(number), {})[key] = tensor
    return Checkpoint(
        step=metadata["step"],
        seen=metadata["seen"],
        model=_part(tensors, "model."),
        optimiser={"state": state, "param_groups": metadata["groups"]},
        random=[random[rank] for rank in sorted(random)],
    )


def checkpoint_step(folder: Folder) -> int:
    """The step of the checkpoint in a run's folder, -1 if there is none; reads its header alone.

    Raises:
        UserError: it is damaged.
    """
    if not folder.exists(CHECKPOINT):
        return -1
    with folder.fs.open(folder.path(CHECKPOINT), "rb") as file:
        size = file.read(8)
        head = size + file.read(min(int.from_bytes(size, "little"), _LONGEST_HEAD))
    return _about(folder, CHECKPOINT, head)["step"]


def read_settings(folder: Folder) -> tuple[Settings, Origin]:
    """What `save_settings` wrote; what an older run lacks is as it was then, see `BEFORE`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if not folder.exists(SETTINGS):
        raise UserError(f"{folder.url} is not a training run: it holds no {SETTINGS}")
    try:
        value = folder.read_json(SETTINGS)
        return Settings(**BEFORE | value["settings"]), Origin(**value["origin"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder.path(SETTINGS)} is damaged: {error}") from error


def read_trained(folder: Folder) -> tuple[dict[str, Tensor], int]:
    """The trained weights by name, and the number of steps that they were trained for.

    Raises:
        UserError: there is none yet, or it is damaged.
    """
    if not folder.exists(PROJECTOR):
        raise UserError(f"{folder.url} holds no {PROJECTOR}: its training has saved nothing yet")
    tensors, metadata = _read(folder, PROJECTOR)
    return tensors, metadata["step"]


def load_trained(module: nn.Module, tensors: dict[str, Tensor], prefix: str, name: str) -> None:
    """Loads the tensors whose names start with `prefix` into a module.

    Args:
        module: the module.
        tensors: by name.
        prefix: removed from their names.
        name: of the file that they are from, for the message.

    Raises:
        UserError: they are the tensors of another module, or hold NaN or infinity.
    """
    try:
        module.load_state_dict(_part(tensors, prefix))
    except RuntimeError as error:
        raise UserError(f"{name} does not fit the settings beside it") from error
    if (odd := not_finite(module.state_dict().items())) is not None:
        raise UserError(f"{name} holds values that are no numbers, in {odd}")


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of this process's random generators, by device type."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Restores what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read(folder: Folder, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    data = folder.read(name)
    about = _about(folder, name, data)
    try:
        return read_safetensors(data), about
    except SafetensorError as error:
        raise UserError(f"{folder.path(name)} is damaged or of another kind: {error}") from error


def _about(folder: Folder, name: str, head: bytes) -> dict[str, Any]:
    """What was written beside the tensors, from the first bytes of a safetensors file."""
    try:
        header = json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])
        return json.loads(header["__metadata__"]["about"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder.path(name)} is damaged or of another kind: {error}") from error
