"""`--engine KEY=VALUE`: read as vLLM's own command line reads it, and refused in one sentence."""

from __future__ import annotations

import pytest

from common.errors import UserError
from parsing.llm.engine_arguments import NEUTRAL, changing, given, typed


def test_keys_are_written_either_way_and_values_keep_their_signs():
    arguments = ["--max-num-batched-tokens=8192", 'speculative_config={"a": "b=c"}']
    assert given(arguments) == {
        "max_num_batched_tokens": "8192",
        "speculative_config": '{"a": "b=c"}',
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["quantization"], "takes KEY=VALUE, such as quantization=fp8, not 'quantization'"),
        (["=fp8"], "takes KEY=VALUE"),
        (["seed=1", "seed=2"], "--engine seed is given twice"),
        (["tensor-parallel-size=2"], "is not offered: give --tensor-parallel"),
        (["max_num_seqs=2"], "is not offered: give --batch"),
        (["hf_token=x"], "is not offered: set HF_TOKEN in the environment"),
    ],
)
def test_what_is_no_argument_or_another_flags_is_told(arguments, sentence):
    with pytest.raises(UserError, match=sentence) as told:
        given(arguments)
    assert "\n" not in str(told.value)


def test_an_argument_counts_for_the_fingerprint_unless_it_is_known_to_be_neutral():
    arguments = ["gpu_memory_utilization=0.8", "kv_cache_dtype=fp8", "something_new=1"]
    assert changing(arguments) == {"kv_cache_dtype": "fp8", "something_new": "1"}


def test_nothing_given_needs_no_vllm():
    assert typed(()) == {}


@pytest.mark.engine
def test_values_are_read_by_vllms_own_types():
    assert typed([
        "quantization=fp8", "gpu-memory-utilization=0.5", "enforce_eager=false", "seed=7",
        "max_num_batched_tokens=8k", "cudagraph_capture_sizes=[1, 2, 4]", "ignore_patterns=*.bin",
        'speculative_config={"method": "ngram", "num_speculative_tokens": 3}',
    ]) == {
        "quantization": "fp8", "gpu_memory_utilization": 0.5, "enforce_eager": False, "seed": 7,
        "max_num_batched_tokens": 8000, "cudagraph_capture_sizes": [1, 2, 4],
        "ignore_patterns": ["*.bin"],
        "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
    }  # fmt: skip


@pytest.mark.engine
@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("quantisation=fp8", "has no engine argument 'quantisation': did you mean quantization?"),
        ("warp_speed=9", "has no engine argument 'warp_speed'"),
        ("gpu_memory_utilization=lots", "--engine gpu_memory_utilization=lots is not valid: could"),
        ("enforce_eager=perhaps", "is not valid: it is true or false"),
        ("dtype=int3", "is not valid: it is one of auto, bfloat16"),
        ("speculative_config={", "is not valid"),
        ("structured_outputs_config={}x", "is not valid"),
        ("cudagraph_capture_sizes=[1", "is not valid"),
    ],
)
def test_what_vllm_does_not_take_is_told_in_one_sentence(argument, sentence):
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")) as told:
        typed([argument])
    assert "\n" not in str(told.value)


@pytest.mark.engine
def test_what_counts_as_neutral_is_known_to_vllm():
    from dataclasses import fields

    from vllm import AsyncEngineArgs

    assert {field.name for field in fields(AsyncEngineArgs)} >= NEUTRAL
