"""Trains a student: `transformers`' Trainer, a LoRA adapter of `peft` or all weights.

The loss is the cross-entropy of the answer's tokens; the prompt's tokens are only read. Logits are
computed where the answer stands and nowhere else, which saves a third of a small model's step.

B captions, L tokens of the longest prompt with its answer, A answer tokens of the batch, C channels,
V vocabulary.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from common.errors import UserError, reason
from common.storage import Folder
from parsing.distillation.examples import Example
from parsing.distillation.settings import DistillSettings
from parsing.llm.prompt import PromptTokens

_POOL = 50  # batches from which rows of one length are taken
_IGNORED = -100  # label of a token that is no part of the answer
_STATE = "trainer_state.json"  # the last file of a checkpoint
_SETTINGS = "settings.json"
SCALE = 2  # of an adapter's product (`lora_alpha` over the rank)


def train(
    settings: DistillSettings,
    base: str,
    revision: str | None,
    tokens: PromptTokens,
    examples: Sequence[Example],
    digest: str,
    start: Mapping[str, Tensor] | None = None,
) -> PeftModel | PreTrainedModel:
    """Trains from the last complete checkpoint, or from the beginning.

    Args:
        base, revision: the model to start from.
        tokens: the student's prompt laid out for its tokenizer.
        examples: of all epochs.
        digest: of settings and data; checkpoints of another one are refused.
        start: as `load_model` takes it.

    Returns:
        the trained model: with its adapter, or in full.

    Raises:
        UserError: the folder holds another training, the disk is full, or no caption is short
            enough.
    """
    rows = [row for each in examples if (row := encode(each, tokens, settings.max_tokens))]
    if not rows:
        raise UserError(f"every caption has more than --max-tokens {settings.max_tokens} tokens")
    checkpoint = prepare(settings.training_folder, digest)
    model = load_model(settings, base, revision, start)
    trainer = AnswerTrainer(
        model=model,
        args=_arguments(settings),
        train_dataset=in_batches(rows, settings.batch, settings.seed),
        data_collator=lambda batch: collate(batch, tokens.tokenizer.eos_token_id),
        callbacks=[_Report()],
    )
    trainer.remove_callback(PrinterCallback)  # every log as a dictionary, beside `_Report`
    with disk_errors(settings.training_folder):
        trainer.train(resume_from_checkpoint=checkpoint)
    return model


def encode(example: Example, tokens: PromptTokens, limit: int) -> dict[str, Any] | None:
    """Token ids of prompt and answer; None for more than `limit` of them."""
    prompt = tokens.render(example.caption)
    answer = tokens.answer(example.answer)
    if len(prompt) + len(answer) > limit:
        return None
    return {"input_ids": prompt + answer, "answer": len(answer), "length": len(prompt + answer)}


def in_batches(rows: Sequence[dict[str, Any]], size: int, seed: int) -> list[dict[str, Any]]:
    """Rows in an order whose consecutive batches hold rows of about one length, in random order.

    Such batches need little padding. Their order must be random: in order of length a model
    forgets long captions while it sees short ones.
    """
    rng = random.Random(seed)
    rows = rng.sample(rows, len(rows))
    pool = _POOL * size
    pools = [sorted(rows[n : n + pool], key=_length) for n in range(0, len(rows), pool)]
    ordered = [row for each in pools for row in each]
    batches = [ordered[n : n + size] for n in range(0, len(ordered), size)]
    whole, rest = batches[: len(rows) // size], batches[len(rows) // size :]
    rng.shuffle(whole)
    return [row for batch in whole + rest for row in batch]


def _length(row: dict[str, Any]) -> int:
    return row["length"]


def collate(batch: Sequence[dict[str, Any]], padding: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels`, each int64 (B, L), padded on the right."""
    shape = len(batch), max(row["length"] for row in batch)
    ids, mask = torch.full(shape, padding), torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, _IGNORED)
    for n, row in enumerate(batch):
        length, answer = row["length"], row["answer"]
        ids[n, :length] = torch.tensor(row["input_ids"])
        mask[n, :length] = 1
        labels[n, length - answer : length] = ids[n, length - answer : length]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class AnswerTrainer(Trainer):
    """A Trainer that computes logits of the answers' tokens alone."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.model_accepts_loss_kwargs = False  # the loss below is a mean already
        self._keep: Tensor | None = None
        self.model.get_output_embeddings().register_forward_pre_hook(self._select)

    def _select(self, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Hidden states (B, L, C) to those of the answers, (A, C)."""
        return inputs if self._keep is None else (inputs[0][self._keep], *inputs[1:])

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean cross-entropy over the A answer tokens of the batch, a scalar."""
        following = torch.full_like(inputs["labels"], _IGNORED)  # (B, L)
        following[:, :-1] = inputs["labels"][:, 1:]
        self._keep = answers = following != _IGNORED
        output = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        )
        self._keep = None  # the model is used without the Trainer afterwards
        targets = following[answers]  # (A,)
        loss = torch.nn.functional.cross_entropy(output.logits.float(), targets)
        return (loss, output) if return_outputs else loss


class _Report(TrainerCallback):
    """One line every half minute: step, loss, time left."""

    def on_train_begin(self, args, state, control, **_: Any) -> None:
        self._began, self._first, self._said = time.monotonic(), state.global_step, 0.0

    def on_log(self, args, state, control, logs=None, **_: Any) -> None:
        now = time.monotonic()
        last = state.global_step >= state.max_steps
        if (
            not state.is_world_process_zero
            or "loss" not in logs
            or (now - self._said < 30 and not last)
        ):
            return
        self._said = now
        done = max(state.global_step - self._first, 1)
        left = (now - self._began) / done * (state.max_steps - state.global_step)
        print(
            f"step {state.global_step:,} of {state.max_steps:,}, loss {float(logs['loss']):.3f}, "
            f"{left / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )


def load_model(
    settings: DistillSettings,
    base: str,
    revision: str | None,
    start: Mapping[str, Tensor] | None = None,
) -> PeftModel | PreTrainedModel:
    """The base model as training begins: with an adapter, or alone.

    Args:
        start: the adapter's weights, by peft's names; one that adds nothing yet where it is None.

    Raises:
        UserError: the base model can't be loaded.
    """
    dtype = torch.float32 if settings.full or not has_bfloat16() else torch.bfloat16
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            revision=revision,
            dtype=dtype,
            # Captions are short: on a CPU, plain products are faster than blockwise attention.
            attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot load the base model {settings.base}: {reason(error)}") from error
    if settings.full:
        model.get_input_embeddings().requires_grad_(False)
        return model
    torch.manual_seed(settings.seed)  # of the adapter's first weights
    adapter = LoraConfig(
        r=settings.rank,
        lora_alpha=SCALE * settings.rank,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, adapter)
    if start is not None:
        set_peft_model_state_dict(model, dict(start))
    return model


def has_bfloat16() -> bool:
    """Whether this machine computes in bfloat16: a GPU from Ampere on, or a CPU with AVX512-BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _arguments(settings: DistillSettings) -> TrainingArguments:
    gpu = torch.cuda.is_available()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    per_process = -(-settings.batch // processes)
    return TrainingArguments(
        output_dir=str(settings.training_folder),
        per_device_train_batch_size=per_process,
        num_train_epochs=1,  # the rows are those of all epochs
        learning_rate=settings.lr,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # as a share of all steps
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=has_bfloat16(),
        use_cpu=not gpu,
        ddp_backend=None if gpu or processes == 1 else "gloo",
        ddp_find_unused_parameters=False,  # every weight takes part in every step
        train_sampling_strategy="sequential",  # see `in_batches`
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=5,
        disable_tqdm=True,
        report_to=[],
        seed=settings.seed,
    )


def prepare(folder: Path, digest: str) -> str | None:
    """Makes the folder of checkpoints; returns the last complete one.

    Raises:
        UserError: it holds another training's checkpoints.
    """
    path = folder / _SETTINGS
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and json.loads(path.read_text()).get("digest") != digest:
            raise UserError(
                f"{folder} holds a training with other settings or data: delete it, or give "
                "another --output"
            )
        Folder(folder).write_json(_SETTINGS, {"digest": digest})  # whole: other ranks read it now
        complete = []
        for checkpoint in folder.glob("checkpoint-*"):
            if (checkpoint / _STATE).exists():
                complete.append(checkpoint)
            else:  # cut off by a kill or a full disk
                shutil.rmtree(checkpoint, ignore_errors=True)
    last = max(complete, key=lambda each: int(each.name.rpartition("-")[2]), default=None)
    if last is not None:
        print(f"going on from {last}", file=sys.stderr)
    return None if last is None else str(last)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns what a full or read-only disk makes the libraries raise into one sentence."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        text = str(error)
        disk = isinstance(error, OSError | SafetensorError) or "PytorchStreamWriter" in text
        if not disk:
            raise
        raise UserError(
            f"cannot write to {folder}: {reason(error)}; free some room and run the same command, "
            "which goes on from the last complete checkpoint"
        ) from error
