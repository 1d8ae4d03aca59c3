"""A student as the mean of several trainings: a "model soup" (Wortsman et al., 2022, arXiv 2203.05482).

Every member starts from the same weights and learns its own draw of the captions in its own order.
What all of them learned stays, what one of them learned by heart fades. The mean costs no more to
run than one member.

M members, R rank of an adapter, I inputs and O outputs of a layer.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from common.errors import UserError, reason
from parsing.distillation.examples import Example, Examples, digests, drawn, recased
from parsing.distillation.settings import DistillSettings, SourceName
from parsing.distillation.training import SCALE, disk_errors, load_model, prepare, train
from parsing.llm.models import ADAPTER, PROVENANCE, Model
from parsing.llm.prompt import PromptTokens

_A, _B = ".lora_A.weight", ".lora_B.weight"


def train_members(
    settings: DistillSettings,
    base: str,
    revision: str | None,
    tokens: PromptTokens,
    sources: Sequence[Examples],
    others: Sequence[Other] = (),
    start: Other | None = None,
) -> PeftModel | PreTrainedModel:
    """Trains `settings.members` models one after another; what is finished is not trained again.

    A member does not depend on how many there are: a training can be given more of them.

    Args:
        base, revision, tokens: as `train` takes them.
        sources: every member draws its examples from them.
        others: students that were trained before, averaged with the members.
        start: the student whose adapter every member trains on.

    Returns:
        the model with the mean of the members' weights.

    Raises:
        UserError: as `train`.
    """
    begun = None if start is None else start.weights
    hashes = digests(sources) | hashes_of(start)
    digest = replace(settings, members=1, average_with=()).digest(hashes)
    if settings.members == 1 and not others:
        examples = _examples(settings, sources, settings.seed)
        return train(settings, base, revision, tokens, examples, digest, begun)
    prepare(settings.training_folder, digest)
    learned = []
    for number in range(settings.members):
        folder = settings.training_folder / f"member-{number}"
        finished = folder.with_suffix(".safetensors")
        if not finished.exists():
            print(f"member {number + 1} of {settings.members}", file=sys.stderr)
            seed = settings.seed + number
            examples = _examples(settings, sources, seed)
            random.Random(seed).shuffle(examples)
            member = replace(settings, output=str(folder))
            model = train(member, base, revision, tokens, examples, digest, begun)
            learned.append(_learned(model))
            if os.environ.get("RANK", "0") == "0":
                with disk_errors(settings.training_folder):
                    save_file(learned[-1], folder.with_suffix(".tmp"))
                    folder.with_suffix(".tmp").rename(finished)
                    shutil.rmtree(member.training_folder)
        else:
            learned.append(load_file(finished))
    shares = [1.0] * len(learned) + [each.share for each in others]
    learned += [each.weights for each in others]
    model = load_model(settings, base, revision)
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, mean_adapter(learned, shares, settings.rank))
    else:
        model.load_state_dict(mean_weights(learned), strict=False)
    return model


def _examples(settings: DistillSettings, sources: Sequence[Examples], seed: int) -> list[Example]:
    return recased(drawn(sources, settings.epochs, seed), settings.recase, seed)


@dataclass(frozen=True)
class Other:
    """A student that was trained before.

    Attributes:
        name: of its folder.
        share: how many members it counts for.
        weights: of its adapter.
        digest: SHA-256 of the adapter's file, in hex.
        provenance: what its own folder says of it.
    """

    name: str
    share: float
    weights: dict[str, Tensor]
    digest: str
    provenance: dict[str, Any]


def read_others(settings: DistillSettings, base: Model) -> list[Other]:
    """The students of `--average-with`.

    Raises:
        UserError: a folder has no adapter, a damaged one, or one of another base or scale.
    """
    flag = "--average-with"
    given = [SourceName.of(text, flag) for text in settings.average_with]
    return [_other(Path(each.name), each.weight, base, flag) for each in given]


def read_start(settings: DistillSettings, base: Model) -> Other | None:
    """The student of `--start-from`.

    Raises:
        UserError: as `read_others`, or its adapter is of another rank.
    """
    if not settings.start_from:
        return None
    flag = "--start-from"
    found = _other(Path(settings.start_from), 1, base, flag)
    rank = next(value.shape[0] for name, value in found.weights.items() if name.endswith(_A))
    if rank != settings.rank:
        raise UserError(
            f"{flag} {settings.start_from}: its adapter has rank {rank}; give --rank {rank}"
        )
    return found


def hashes_of(*students: Other | None) -> dict[str, str]:
    """Place and name -> hash of each student's adapter; two may have one name."""
    return {
        f"{place} {each.name}": each.digest
        for place, each in enumerate(students)
        if each is not None
    }


def _other(folder: Path, share: float, base: Model, flag: str) -> Other:
    adapter = folder / ADAPTER if (folder / ADAPTER).is_dir() else folder
    try:
        config = json.loads((adapter / "adapter_config.json").read_text())
        data = (adapter / "adapter_model.safetensors").read_bytes()
        weights = load(data)
        about = folder / PROVENANCE
        provenance = json.loads(about.read_text()) if about.exists() else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{flag} {folder}: no adapter can be read there ({reason(error)})"
        ) from error
    own = provenance.get("base", {}).get("digest")
    if own != base.digest():
        raise UserError(f"{flag} {folder}: its base model is not {base.source}")
    if config["lora_alpha"] != SCALE * config["r"]:
        raise UserError(
            f"{flag} {folder}: its adapter is scaled by {config['lora_alpha'] / config['r']:g}, "
            f"not by {SCALE}"
        )
    return Other(folder.name, share, weights, hashlib.sha256(data).hexdigest(), provenance)


def _learned(model: PeftModel | PreTrainedModel) -> dict[str, Tensor]:
    """Copies of the weights that were trained."""
    if isinstance(model, PeftModel):
        found = get_peft_model_state_dict(model)
    else:
        found = {name: each for name, each in model.named_parameters() if each.requires_grad}
    return {name: each.detach().cpu().clone() for name, each in found.items()}


def mean_weights(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every weight."""
    return {
        name: torch.stack([each[name].float() for each in members]).mean(0) for name in members[0]
    }


def mean_adapter(
    members: Sequence[Mapping[str, Tensor]], shares: Sequence[float], rank: int
) -> dict[str, Tensor]:
    """The adapter of a rank that is nearest to the mean of the members' products.

    An adapter adds B A to a layer, with A (R, I) and B (O, R). The mean of M such products has a
    rank of up to M R; its largest singular values are kept. The mean of the factors would not
    do: two members can have one product from different factors.

    Args:
        members: name -> weight, with the names of `peft`, `....lora_A.weight` and
            `....lora_B.weight`; of any ranks.
        shares: how much each member counts.
        rank: of the result.

    Returns:
        float32 weights under the same names.
    """
    found: dict[str, Tensor] = {}
    kept = whole = 0.0
    for name in members[0]:
        if not name.endswith(_A):
            continue
        layer = name.removesuffix(_A)
        parts = zip(shares, members, strict=True)
        left = torch.cat([share * each[layer + _B].float() for share, each in parts], 1)
        left /= sum(shares)
        right = torch.cat([each[layer + _A].float() for each in members], 0)  # (M R, I)
        left_basis, left_rest = torch.linalg.qr(left)  # the product is never written out: it may
        right_basis, right_rest = torch.linalg.qr(right.T)  # be as large as the layer
        u, s, v = torch.linalg.svd(left_rest @ right_rest.T, full_matrices=False)
        root = s[:rank].sqrt()
        missing = rank - len(root)  # of a layer smaller than the rank
        found[layer + _B] = pad(left_basis @ u[:, :rank] * root, (0, missing))
        found[layer + _A] = pad(root[:, None] * (v[:rank] @ right_basis.T), (0, 0, 0, missing))
        kept += s[:rank].square().sum().item()
        whole += s.square().sum().item()
    share = (kept / whole) ** 0.5 if whole else 1.0
    print(f"mean of {len(members)} adapters: {share:.1%} of it kept", file=sys.stderr)
    return found
