"""`--engine KEY=VALUE`: arguments of vLLM's engine, read and checked by vLLM's own parser."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Sequence
from typing import Any

from common.errors import UserError

# What the project sets from a flag of its own, or what an engine of it cannot be.
_ELSEWHERE = {
    "model": "give --model",
    "tokenizer": "a model brings its own",
    "revision": "give --revision",
    "tokenizer_revision": "give --revision",
    "tensor_parallel_size": "give --tensor-parallel",
    "max_num_seqs": "give --batch",
    "pipeline_parallel_size": "an engine spans the GPUs of --tensor-parallel",
    "data_parallel_size": "an engine is one copy of the model, and --actors says how many there are",
    "enable_lora": "a request names no adapter: merge it into the model first",
    "hf_token": "set HF_TOKEN in the environment, since a manifest can be read by everyone",
}
# They change how fast answers come, where weights are read from, or what is logged, and no answer
# but through the batch, as any other machine does.
NEUTRAL = frozenset((
    "gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override",
    "max_num_batched_tokens", "max_num_scheduled_tokens", "max_num_queued_reqs",
    "max_num_queued_tokens", "enable_prefix_caching", "async_scheduling", "stream_interval",
    "download_dir", "safetensors_load_strategy", "safetensors_prefetch_num_threads",
    "safetensors_prefetch_block_size", "use_tqdm_on_load", "distributed_timeout_seconds",
    "cpu_distributed_timeout_seconds", "shutdown_timeout", "numa_bind", "numa_bind_nodes",
    "numa_bind_cpus", "disable_log_stats", "aggregate_engine_logging", "log_level",
    "otlp_traces_endpoint", "collect_detailed_traces",
))  # fmt: skip


def given(arguments: Sequence[str]) -> dict[str, str]:
    """Values by vLLM's names of the arguments, as texts.

    Args:
        arguments: `KEY=VALUE`, with `_` or `-` in the key.

    Raises:
        UserError: it is no pair, a key stands twice, or the project sets it by another flag.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        key = key.strip().lstrip("-").replace("-", "_")
        if not equals or not key:
            raise UserError(f"--engine takes KEY=VALUE, such as quantization=fp8, not '{argument}'")
        if key in found:
            raise UserError(f"--engine {key} is given twice")
        if key in _ELSEWHERE:
            raise UserError(f"--engine {key} is not offered: {_ELSEWHERE[key]}")
        found[key] = value.strip()
    return found


def changing(arguments: Sequence[str]) -> dict[str, str]:
    """Those of `given` that may change an answer."""
    return {key: value for key, value in given(arguments).items() if key not in NEUTRAL}


def typed(arguments: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments of vLLM's `AsyncEngineArgs`.

    Args:
        arguments: as of `given`. A list is written as JSON (`[1, 2]`), and so is a mapping.

    Raises:
        UserError: vLLM knows no such argument, or not this value of it.
    """
    texts = given(arguments)
    if not texts:
        return {}
    from vllm import __version__, AsyncEngineArgs  # noqa: I001
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser(add_help=False))
    actions = {action.dest: action for action in parser._actions}
    found = {}
    for key, text in texts.items():
        if key not in actions:
            near = difflib.get_close_matches(key, actions, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise UserError(f"vLLM {__version__} has no engine argument '{key}'{hint}")
        try:
            found[key] = _value(actions[key], text)
        except (ValueError, TypeError, argparse.ArgumentTypeError, argparse.ArgumentError) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"--engine {key}={text} is not valid: {why}") from error
    return found


def _value(action: argparse.Action, text: str) -> Any:
    if isinstance(action, argparse.BooleanOptionalAction):
        if text.lower() not in ("true", "false"):
            raise ValueError("it is true or false")
        return text.lower() == "true"
    if action.nargs in ("+", "*") or isinstance(action.nargs, int):
        values = json.loads(text) if text.startswith("[") else [text]
        return [
            _checked(action, value if isinstance(value, str) else json.dumps(value))
            for value in values
        ]
    return _checked(action, text)


def _checked(action: argparse.Action, text: str) -> Any:
    value = action.type(text) if action.type else text
    if action.choices is not None and value not in action.choices:
        raise ValueError(f"it is one of {', '.join(map(str, action.choices))}")
    return value
