"""The estimate, against figures worked out by hand and against an empty model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from workflows.cc12m import estimate
from workflows.cc12m.checks.model import Decoder
from workflows.cc12m.estimate import STUDENT, TEACHER, Llm, Settings, main, report

VICUNA = LlamaConfig(
    vocab_size=32_000, hidden_size=6656, intermediate_size=17_920, num_hidden_layers=60,
    num_attention_heads=52, max_position_embeddings=2048,
)  # fmt: skip
SMOLLM2 = LlamaConfig(
    vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip


@pytest.mark.parametrize(("llm", "config"), [(TEACHER, VICUNA), (STUDENT, SMOLLM2)])
def test_weights_and_cache_are_those_of_the_model_s_config(llm, config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    count = sum(p.numel() for p in model.parameters())
    assert llm.parameters == pytest.approx(count, rel=1e-3)
    assert llm.cache_bytes == Decoder.of_config(config, count).kv_bytes


def test_the_rate_is_the_formula_that_is_shown(monkeypatch):
    monkeypatch.setitem(estimate.GPUS, "a100", ("round", 100e12, 1e12))
    settings = Settings(gpus=4, batch=10, own=20, out=10, limit=1e9)
    llm = Llm("x", 1e9, 40e3, prefix=100, gpus=2)
    reading = 2 * 1e9 * (20 + 10) / (2 * 40e12)
    writing = 10 * (2 * 1e9 / 10 + (100 + 20 + 5) * 40e3) / (2 * 0.7e12)
    assert settings.rate(llm) == pytest.approx(2 / (reading + writing))
    assert replace(settings, limit=3).rate(llm) == 2 * 3


def cells(text: str, row: str) -> list[float]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {row}"))
    return [float(cell.replace(",", "")) for cell in line.split("|")[2:-1] if cell.strip()]


def test_hours_dollars_and_tags_follow_from_the_rates():
    settings = Settings(captions=1_000_000, sample=50_000, price=3, tags=2.5)
    text = report(settings)
    teacher, student = settings.rate(TEACHER), settings.rate(STUDENT)
    alone = 1_000_000 / teacher / 3600
    both = 50_000 / teacher / 3600 + settings.training_hours(50_000) + 1_000_000 / student / 3600
    assert cells(text, "hours") == pytest.approx([alone, both], abs=0.05)
    assert cells(text, "dollars") == pytest.approx([alone * 24, both * 24], abs=0.5)
    assert cells(text, "tags per") == pytest.approx(
        [2.5e6 / alone / 24, 2.5e6 / both / 24], rel=0.05
    )


def test_a_sample_is_never_more_than_everything():
    everything, more = (
        report(Settings(captions=1_000_000, sample=sample)) for sample in (1_000_000, 2_000_000)
    )
    assert cells(more, "hours") == cells(everything, "hours")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--captions", "0"], "--captions is at least 1"),
        (["--gpus", "1"], "--gpus is at least 2"),
        (["--price", "-1"], "--price is at least 0.01"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_sentence(flags, sentence, capsys):
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
