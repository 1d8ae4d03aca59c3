"""Models that are not there, or do not fit the GPUs, are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from parsing.llm.models import Model
from parsing.llm.parser import LLMConfig
from tests.byte_tokenizer import byte_tokenizer
from tests.workflows.cc12m.findings import levels, only
from workflows.cc12m.checks.finding import FAILED, OK, WARNING, Finding, run_check
from workflows.cc12m.checks.model import Decoder, check_model

GB = 10**9


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model's folder with a tokenizer of one token a byte and no weights."""
    folder = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer()).save_pretrained(folder)
    write_config(folder)
    return folder


def write_config(folder: Path, **changes: int) -> None:
    values = {
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 8192,
    }
    LlamaConfig(**(values | changes)).save_pretrained(folder)


def model_findings(
    folder: Path, memory: int | None = 80 * GB, tp: int = 1, **changes
) -> list[Finding]:
    config = LLMConfig(model=Model(str(folder), tensor_parallel=tp), gpu=True, **changes)
    return run_check("model", lambda: check_model(config, memory))


def test_a_model_that_fits_is_ok(model):
    found = model_findings(model)
    assert levels(found) == [OK, OK]
    assert "room for about" in found[1].sentence


def test_a_model_that_is_not_there_or_half_there_is_a_failure(model, tmp_path):
    config = LLMConfig(model=Model("nobody/nothing"))
    found = run_check("model", lambda: check_model(config, None))
    assert "there is no model 'nobody/nothing'" in only(found, FAILED)
    assert "is not a model: it has no config.json" in only(model_findings(tmp_path), FAILED)
    (tmp_path / "config.json").write_text("{")
    assert "cannot read the config.json" in only(model_findings(tmp_path), FAILED)
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    assert "cannot load the tokenizer" in only(model_findings(tmp_path), FAILED)


def test_a_model_that_does_not_fit_is_a_failure(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "large")
    write_config(folder, hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8)  # fmt: skip
    assert "give --tensor-parallel 4" in only(model_findings(folder, 72 * GB, tp=2), FAILED)
    found = model_findings(folder, 40 * GB, tp=4)
    assert "leave no room for an answer" in only(found, FAILED)


def test_grouped_heads_on_more_gpus_than_heads_are_kept_several_times():
    grouped = Decoder(1e9, 2e9, heads=32, kv_heads=2, kv_bytes=1e6, context=2048)
    assert [n for n in range(1, 9) if grouped.splits_over(n)] == [1, 2, 4, 8]
    two, eight = (grouped.cached_tokens(80e9, n) for n in (2, 8))
    assert two == pytest.approx((2 * (80e9 * 0.92 - 4e9) - 2e9) / 1e6)
    assert eight == pytest.approx((8 * (80e9 * 0.92 - 4e9) - 2e9) / 4e6)


def test_the_cache_s_formula_gives_the_size_of_a_real_cache():
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=8, num_key_value_heads=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    cache = model(torch.arange(10)[None], use_cache=True).past_key_values
    tensors = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    size = sum(t.numel() * t.element_size() for t in tensors)
    assert Decoder.of_config(config, 1).kv_bytes * 10 == size


@pytest.mark.parametrize(
    ("quantisation", "bytes_a_weight"),
    [
        (None, 2),
        ({"quant_method": "awq", "bits": 4}, 0.55),
        ({"quant_method": "gptq", "bits": 8}, 1),
        ({"quant_method": "fp8"}, 1),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4}}},
            },
            0.55,
        ),
    ],
)
def test_the_size_of_a_quantised_model_is_read_from_its_config(quantisation, bytes_a_weight):
    config = LlamaConfig()
    if quantisation:
        config.quantization_config = quantisation
    assert Decoder.of_config(config, 1e9).weights == pytest.approx(1e9 * bytes_a_weight)


def test_heads_that_cannot_be_shared_a_short_context_and_a_small_cache_are_named(model, tmp_path):
    found = model_findings(model, tp=3)
    assert "4 heads of attention cannot be divided between 3 GPUs: give --tensor-parallel 1 or 2 or 4" in only(found, FAILED)  # fmt: skip
    short = shutil.copytree(model, tmp_path / "short")
    write_config(short, max_position_embeddings=1024)
    found = model_findings(short)
    assert "the model was made for 1,024" in only(found, FAILED)
    found = model_findings(model, int(4.4e9), batch=10**6)
    assert "fewer than --batch 1000000" in only(found, WARNING)
