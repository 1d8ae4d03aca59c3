"""The arithmetic of the estimate, against figures worked out by hand and against an empty model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from workflows.cc12m.arithmetic import (
    GPUS,
    VICUNA_33B,
    Decoder,
    Efficiency,
    Work,
    parse_caption,
)
from workflows.cc12m.estimate import Settings, decoder_of, estimate, main

CONFIG = LlamaConfig(
    vocab_size=32_000,
    hidden_size=6656,
    intermediate_size=17_920,
    num_hidden_layers=60,
    num_attention_heads=52,
    max_position_embeddings=2048,
)


def test_vicuna_s_weights_and_cache_are_those_of_its_config():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG)
    count = sum(p.numel() for p in model.parameters())
    assert count == VICUNA_33B.parameters == 32_528_943_616
    assert Decoder.of_config(CONFIG, count) == VICUNA_33B
    # 2 (keys and values) x 60 layers x 52 heads x 128 x 2 bytes
    assert VICUNA_33B.kv_bytes == 1_597_440
    assert VICUNA_33B.weights == pytest.approx(65.06e9, rel=1e-3)


def test_the_cache_s_formula_gives_the_size_of_a_real_cache():
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    cache = model(torch.arange(10)[None], use_cache=True).past_key_values
    tensors = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    size = sum(t.numel() * t.element_size() for t in tensors)
    assert Decoder.of_config(config, 1).kv_bytes * 10 == size


def test_the_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        attn_implementation="eager",
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config)
    count = sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counted:
        model(torch.arange(32)[None], use_cache=False)
    # The whole square of attention is computed there, though half of it is masked.
    ours = Decoder.of_config(config, count).flops(32, attended=32)
    assert ours == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_heads_are_never_cut():
    assert [n for n in range(1, 9) if VICUNA_33B.splits_over(n)] == [1, 2, 4]
    grouped = replace(VICUNA_33B, heads=32, kv_heads=2)
    assert [n for n in range(1, 9) if grouped.splits_over(n)] == [1, 2, 4, 8]


def test_grouped_heads_on_more_gpus_than_heads_are_kept_several_times():
    grouped = replace(VICUNA_33B, heads=32, kv_heads=2)
    memory = 80e9
    two, eight = grouped.cached_tokens(memory, 2), grouped.cached_tokens(memory, 8)
    free = [n * (memory * 0.92 - 4e9) - grouped.weights for n in (2, 8)]
    assert two == pytest.approx(free[0] / grouped.kv_bytes)
    assert eight == pytest.approx(free[1] / (4 * grouped.kv_bytes))


def test_the_time_of_a_caption_worked_out_by_hand():
    model = Decoder(1e9, 10, 1000, 10, 10, 100, 2048)  # 2 GB; 40 kB a token of cache
    gpu = replace(GPUS["a100"], flops=100e12, bandwidth=1e12)
    reached = Efficiency(0.5, 0.5, prefix_once=False)
    cost = parse_caption(model, gpu, 1, 10, Work(prefix=100, own=20, out=10), reached)
    # 20 tokens x (2e9 + 4 x 10 x 1000 x 110) at 50e12
    assert cost.prefill == pytest.approx(20 * (2e9 + 4.4e6) / 50e12)
    # Each of ten answers has 100 shared tokens and 25 of its own, halfway.
    assert cost.step_bytes == pytest.approx(2e9 + 10 * 125 * 40e3)
    assert cost.decode == pytest.approx(10 * cost.step_bytes / 0.5e12 / 10)
    once = parse_caption(model, gpu, 1, 10, Work(100, 20, 10), replace(reached, prefix_once=True))
    assert once.step_bytes == pytest.approx(2e9 + (100 + 10 * 25) * 40e3)
    assert cost.rate == pytest.approx(1 / (cost.prefill + cost.decode))


def test_a_step_of_many_answers_is_bound_by_operations():
    model = Decoder(1e9, 10, 1000, 10, 10, 100, 2048)
    gpu = replace(GPUS["a100"], flops=1e12, bandwidth=1e15)
    cost = parse_caption(model, gpu, 1, 1000, Work(0, 1, 10), Efficiency(1, 1, True))
    assert cost.decode == pytest.approx(10 * model.flops(1, 6) / 1e12)


def test_hours_and_money_follow_from_the_rate():
    settings = Settings(price=3)
    found = estimate(settings, VICUNA_33B)
    for rate, hours, cost in zip(
        found.captions_a_second, found.parsing_hours, found.parsing_cost, strict=True
    ):
        assert hours == pytest.approx(settings.captions / rate / 3600)
        assert cost == pytest.approx(hours * 8 * 3)
    assert found.captions_a_second[0] > found.captions_a_second[1] > found.captions_a_second[2]
    twice = estimate(replace(settings, gpus=16), VICUNA_33B)
    assert twice.parsing_hours[1] == pytest.approx(found.parsing_hours[1] / 2)
    assert twice.parsing_cost[1] == pytest.approx(found.parsing_cost[1])
    assert found.disk["images"] == pytest.approx(12_423_374 * 0.63 * 40_000)


def test_a_quantised_copy_leaves_room_for_more_answers():
    memory = GPUS["a100"].memory
    full, packed = (
        replace(VICUNA_33B, weight_bytes=size).cached_tokens(memory, 1) for size in (2, 0.55)
    )
    assert packed - full == pytest.approx(32_528_943_616 * 1.45 / 1_597_440)
    found = estimate(Settings(tensor_parallel=1, weight_bytes=0.55), VICUNA_33B)
    assert found.disk["model"] == pytest.approx(32.53e9 * 0.55, rel=1e-3)


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
    config = LlamaConfig(**CONFIG.to_diff_dict())
    if quantisation:
        config.quantization_config = quantisation
    assert Decoder.of_config(config, 1).weight_bytes == pytest.approx(bytes_a_weight)


def test_a_model_s_folder_can_be_given(tmp_path):
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    config.save_pretrained(tmp_path)
    found = decoder_of(str(tmp_path))
    assert (found.layers, found.heads, found.head_dim) == (2, 4, 16)
    assert found.parameters == 2 * (4 * 64**2 + 3 * 64 * 128 + 2 * 64) + 2 * 100 * 64 + 64


def test_the_report_shows_its_arithmetic(capsys):
    assert main(["--gpu", "h100", "--price", "3"]) == 0
    said = capsys.readouterr().out
    assert "nothing here was measured on these GPUs" in said
    assert "2 x 60 layers x 52 heads x 128 x 2 bytes = 1.597 MB" in said
    assert "12,423,374 captions, 8 x H100 80 GB SXM" in said
    assert main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["captions"] == 12_423_374


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--gpu", "tpu"], "--gpu is one of"),
        (["--captions", "0"], "--captions must be above 0"),
        (["--success", "1.5"], "--success is a share"),
        (["--gpus", "1"], "one engine spans 2 GPUs"),
        (["--tensor-parallel", "8"], "52 heads of attention cannot be shared by 8 GPUs"),
        (["--tensor-parallel", "1", "--weight-bytes", "4"], "do not fit 1 x A100"),
        (["--price", "-1"], "--price must not be negative"),
        (["--weight-bytes", "0"], "--weight-bytes must be above 0"),
        (["--model", "nobody/nothing"], "there is no model 'nobody/nothing'"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_sentence(flags, sentence, capsys):
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
