"""The folder of a student: a model that vLLM and transformers load, and how it came to be.

    config.json, model.safetensors, tokenizer...   the model, adapter merged, bfloat16
    prompt.yaml                                     what it is asked; parsing/run.py reads it
    adapter/                                        the LoRA weights alone (not of a --full student)
    README.md                                       the model card
    tagalign.json                                   provenance: data, teacher, settings, files

The folder is written aside and renamed: it appears complete or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from common.errors import UserError
from common.flags import command_line
from parsing.distillation.examples import Examples
from parsing.distillation.members import Other
from parsing.distillation.settings import DistillSettings
from parsing.distillation.training import disk_errors
from parsing.llm.adapters import merge_adapter
from parsing.llm.models import ADAPTER, PROMPT, PROVENANCE, Model, find_model
from parsing.llm.prompt import PromptTokens, prompt_path

CARD = "README.md"
_SOURCES = ("teacher", "gold", "test", "average_with")
_PATHS = (*_SOURCES, "start_from", "output")  # `sources` has their names; folders are private
_VERSIONS = ("torch", "transformers", "peft")


def write_student(
    settings: DistillSettings,
    base: Model,
    tokens: PromptTokens,
    model: PeftModel | PreTrainedModel,
    sources: Sequence[Examples],
    others: Sequence[Other],
    start: Other | None,
    digest: str,
) -> None:
    """Writes the student's folder, the table of figures aside (see `add_figures`).

    Raises:
        UserError: the disk is full or can't be written to.
    """
    aside = settings.training_folder / "student"
    with disk_errors(settings.training_folder):
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(model, PeftModel):
            _save_adapter(model, base.source, aside / ADAPTER)
            merge_adapter(base.folder(), aside / ADAPTER, aside, base.revision)
        else:
            model.to(torch.bfloat16).save_pretrained(aside)
        tokens.tokenizer.save_pretrained(aside)
        shutil.copyfile(prompt_path(settings.prompt), aside / PROMPT)
        about = provenance(settings, base, sources, others, start) | {"digest": digest}
        about["files"] = {p.name: p.stat().st_size for p in sorted(aside.iterdir()) if p.is_file()}
        (aside / PROVENANCE).write_text(json.dumps(about, indent=1))
        (aside / CARD).write_text(card(settings, about, figures=None), encoding="utf-8")
        settings.folder.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(settings.folder)


def check_student(settings: DistillSettings, digest: str) -> None:
    """Looks whether a finished student is the one that settings and data ask for.

    Raises:
        UserError: it is another one, or its folder is damaged.
    """
    about = find_model(settings.output).provenance()
    if about.get("digest") != digest:
        raise UserError(
            f"{settings.folder} holds a student of other settings or data: give another --output"
        )


def add_figures(settings: DistillSettings, table: str) -> None:
    """Writes the table of figures into the card."""
    about = json.loads((settings.folder / PROVENANCE).read_text())
    with disk_errors(settings.folder):
        (settings.folder / CARD).write_text(card(settings, about, table), encoding="utf-8")


def _without_folders(settings: DistillSettings) -> DistillSettings:
    names = {field: tuple(map(_name, getattr(settings, field))) for field in _SOURCES}
    return replace(
        settings,
        output=f"data/{settings.folder.name}",
        start_from=_name(settings.start_from),
        **names,
    )


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _save_adapter(model: PeftModel, base: str, folder: Path) -> None:
    """In bfloat16, half of what `peft` writes: the sum with the base is rounded to it anyway."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = base  # not the folder of this machine's cache
    model.save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    save_file({k: v.to(torch.bfloat16) for k, v in load_file(path).items()}, path)
    (folder / CARD).unlink(missing_ok=True)  # a form that nobody has filled in


def provenance(
    settings: DistillSettings,
    base: Model,
    sources: Sequence[Examples],
    others: Sequence[Other],
    start: Other | None,
) -> dict[str, Any]:
    """JSON: what the student was trained on, and how; and the same of the students that are in it."""
    learned = sources if settings.members else ()
    return {
        "base": {"model": base.source, "digest": base.digest()},
        "sources": [
            {
                "name": Path(source.name).name,
                "weight": source.weight,
                "captions": len(source.learned),
                "held_out": len(source.held_out),
                "sha256": source.digest,
                "teacher": source.fingerprint,
            }
            for source in learned
        ],
        "started_from": None if start is None else _about(start),
        "averaged_with": [_about(each) | {"weight": each.share} for each in others],
        "settings": {k: v for k, v in asdict(settings).items() if k not in _PATHS},
        "versions": {name: version(name) for name in _VERSIONS},
    }


def _about(student: Other) -> dict[str, Any]:
    return {"name": student.name, "sha256": student.digest, "provenance": student.provenance}


def card(settings: DistillSettings, about: Mapping[str, Any], figures: str | None) -> str:
    """The model card, Markdown with the header that the Hugging Face hub reads."""
    learned = [
        f"- {source['name']}: {source['captions']:,} captions, weight {source['weight']:g}, "
        f"{source['held_out']:,} held out"
        for source in about["sources"]
    ]
    if start := about["started_from"]:
        learned.append(f"- started from the student {start['name']}")
    for each in about["averaged_with"]:
        learned.append(f"- averaged with the student {each['name']}, weight {each['weight']:g}")
    listed = "\n".join(learned)
    table = "" if figures is None else f"\n## Figures\n\n```\n{figures}\n```\n"
    return f"""---
base_model: {about["base"]["model"]}
library_name: transformers
pipeline_tag: text-generation
tags: [tagalign, image-captions, tagging]
---

# {settings.folder.name}

Names the visible objects of an image caption and their attributes: `young: girl; wooden: bed; cat`,
or `-` where the caption names none. It is asked the caption alone, without rules or examples.

    python parsing/run.py --model data/{settings.folder.name} --captions FILE --output DIR

## Training

    {command_line("parsing/distill.py", _without_folders(settings))}

{listed}

`tagalign.json` has the settings, the hashes of the data and the versions of the libraries.
{table}"""
