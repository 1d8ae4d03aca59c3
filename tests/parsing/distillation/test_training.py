"""Training learns, survives being stopped, and looks at the answers' tokens alone."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from parsing.distillation import training
from parsing.distillation.examples import Example
from parsing.distillation.settings import DistillSettings
from parsing.distillation.training import (
    AnswerTrainer,
    collate,
    encode,
    in_batches,
    prepare,
    train,
)

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = [Example(f"a red car {n}", "red: car") for n in range(40)]


@pytest.fixture
def settings(tmp_path):
    return DistillSettings(
        gold=("g",), output=str(tmp_path / "student"), batch=4, lr=1e-2, rank=4, save_steps=4
    )


def run(settings, tiny_model, tokens, digest="d"):
    model = train(settings, str(tiny_model), None, tokens, EXAMPLES, digest)
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_the_loss_is_that_of_the_answers_tokens(tiny_model, tokens, settings):
    """The same number as transformers' own loss with the prompt's labels masked."""
    from transformers import AutoModelForCausalLM

    rows = [encode(Example("a dog", "dog"), tokens, 99), encode(EXAMPLES[0], tokens, 99)]
    batch = collate(rows, tokens.tokenizer.eos_token_id)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    expected = model(**batch).loss
    trainer = AnswerTrainer(model=model, args=training._arguments(settings))
    torch.testing.assert_close(trainer.compute_loss(model, batch), expected)


def test_a_batch_is_padded_on_the_right_and_only_answers_have_labels(tokens):
    rows = [
        encode(Example("a dog", "dog"), tokens, 99),
        encode(Example("a dog here", "-"), tokens, 99),
    ]
    batch = collate(rows, 7)
    text = tokens.tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0] == 1])
    assert text == "Caption: a dog\n dog</s>"
    labelled = batch["labels"][1][batch["labels"][1] != -100]
    assert tokens.tokenizer.decode(labelled) == " -</s>"
    assert encode(Example("a dog", "dog"), tokens, 5) is None


def test_batches_hold_one_length_and_come_in_random_order():
    rows = [{"length": n % 40, "id": n} for n in range(400)]
    ordered = in_batches(rows, 8, seed=0)
    assert sorted(row["id"] for row in ordered) == list(range(400))
    lengths = [[row["length"] for row in ordered[n : n + 8]] for n in range(0, 400, 8)]
    assert max(max(each) - min(each) for each in lengths) <= 2
    firsts = [each[0] for each in lengths]
    assert firsts != sorted(firsts)
    assert firsts != sorted(firsts, reverse=True)


@pytest.mark.parametrize("full", [False, True])
def test_training_lowers_the_loss_and_leaves_the_embeddings(full, tiny_model, tokens, settings):
    from transformers import AutoModelForCausalLM

    settings = replace(settings, full=full)
    model = train(settings, str(tiny_model), None, tokens, EXAMPLES * 2, "d")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    batch = collate([encode(each, tokens, 99) for each in EXAMPLES], 0)
    with torch.no_grad():
        before, after = base(**batch).loss, model.float()(**batch).loss
    assert after < 0.95 * before
    embeddings = model.get_input_embeddings().weight
    torch.testing.assert_close(embeddings, base.get_input_embeddings().weight, atol=1e-2, rtol=1e-2)


def test_a_training_that_was_stopped_goes_on_and_ends_alike(
    tiny_model, tokens, settings, tmp_path, monkeypatch
):
    whole = run(replace(settings, output=str(tmp_path / "whole")), tiny_model, tokens)

    def stop(self, args, state, control, **_):
        if state.global_step == 6:  # after the checkpoint of step 4
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._Report, "on_step_end", stop, raising=False)
        with pytest.raises(KeyboardInterrupt):
            run(settings, tiny_model, tokens)
    cut = settings.training_folder / "checkpoint-5"  # as a kill while it was written leaves it
    cut.mkdir()
    (cut / "adapter_model.safetensors").write_bytes(b"half")
    again = run(settings, tiny_model, tokens)
    assert not cut.exists()
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, msg=name)


def test_checkpoints_of_another_training_are_refused(tiny_model, tokens, settings):
    run(settings, tiny_model, tokens)
    with pytest.raises(UserError, match="holds a training with other settings or data"):
        run(settings, tiny_model, tokens, digest="other")


def _prepare_often(folder, failed):
    try:
        for _ in range(300):
            prepare(folder, "digest")
    except BaseException:
        failed.set()
        raise


def test_ranks_may_prepare_one_folder_at_once(tmp_path):
    forked = multiprocessing.get_context("fork")
    failed = forked.Event()
    ranks = [forked.Process(target=_prepare_often, args=(tmp_path, failed)) for _ in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert not failed.is_set()


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(
    tiny_model, tokens, settings, monkeypatch
):
    saved = AnswerTrainer._save_checkpoint

    def fill(self, model, trial):
        if self.state.global_step > 4:
            raise OSError(28, "No space left on device")
        saved(self, model, trial)

    monkeypatch.setattr(AnswerTrainer, "_save_checkpoint", fill)
    with pytest.raises(UserError, match=r"No space left on device; free some room") as told:
        run(settings, tiny_model, tokens)
    assert "\n" not in str(told.value)
    assert (settings.training_folder / "checkpoint-4" / "trainer_state.json").exists()


def test_captions_that_are_all_too_long_are_told(tiny_model, tokens, settings):
    with pytest.raises(UserError, match="every caption has more than --max-tokens 3 tokens"):
        run(replace(settings, max_tokens=3), tiny_model, tokens)


def test_two_processes_train_one_model(tiny_model, settings, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import torch
from transformers import AutoTokenizer
from parsing.distillation.settings import DistillSettings
from parsing.distillation.training import train
from parsing.llm.prompt import PromptTokens, load_prompt
from parsing.distillation.examples import Example

tokens = PromptTokens(load_prompt("student"), AutoTokenizer.from_pretrained({str(tiny_model)!r}))
settings = DistillSettings(gold=("g",), output={settings.output!r}, batch=4, lr=1e-2, rank=4)
examples = [Example(f"a red car {{n}}", "red: car") for n in range(40)]
model = train(settings, {str(tiny_model)!r}, None, tokens, examples, "d")
weights = {{name: p.detach() for name, p in model.named_parameters() if p.requires_grad}}
torch.save(weights, {str(tmp_path)!r} + f"/rank{{os.environ['RANK']}}.pt")
"""
    )
    # A port of its own: the default one may be another training's.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, str(script)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"rank{n}.pt", weights_only=True) for n in (0, 1))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, msg=name)
    assert any(value.abs().max() > 0 for name, value in first.items() if "lora_B" in name)
