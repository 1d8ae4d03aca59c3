"""`--dry-run`: the prompt as the model would see it, its tokens, and what a run would take."""

from __future__ import annotations

import itertools
import json
from statistics import mean

from common.errors import UserError
from parsing.endpoint.parser import EndpointConfig, Questions
from parsing.job.progress import duration
from parsing.job.worker import screen
from parsing.llm.models import Model
from parsing.llm.parser import LLMConfig
from parsing.llm.prompt import PromptTokens
from parsing.parser import ParserConfig
from parsing.source.captions import Selection, unique_captions
from parsing.source.readers import Source

SHOWN = 3
ANSWER_TOKENS = 6  # of a student's answer to a web caption, on average
COUNTED = 2_000  # captions whose tokens are counted for the estimate
# Floating-point operations a second that prefill reaches on one device, and bytes a second that
# decoding reads: an A100-80G at 40% and 70% of its data sheet, and 2 cores with AVX-512.
GPU_FLOPS, GPU_BYTES = 312e12 * 0.4, 2.0e12 * 0.7
CPU_FLOPS, CPU_BYTES = 0.25e12, 10e9


def dry_run(source: Source, selection: Selection, config: ParserConfig) -> str:
    """The report; parses nothing and starts no cluster.

    Raises:
        UserError: as the run itself would, for the input and the model's tokenizer.
    """
    head, total, unique = _captions(source, selection)
    shards = -(-unique // selection.shard_size)
    lines = [
        f"{unique:,} unique captions in shards of {selection.shard_size:,}: {shards:,} of them; "
        f"{unique - total:,} need no parser (no word, too long or malformed)"
    ]
    if isinstance(config, EndpointConfig):
        config.check()
        questions = Questions(config)
        bodies = [json.dumps(questions.body(c), ensure_ascii=False, indent=2) for c in head[:SHOWN]]
        return "\n".join([*lines, f"--- to {config.server.url}{questions.path}", *bodies])
    if not isinstance(config, LLMConfig):
        shown = "\n".join(head[:SHOWN])
        return "\n".join([*lines, f"parser {config.name}: no prompt; the first captions:", shown])
    config.check()
    tokens = config.tokens()
    for caption in head[:SHOWN]:
        own = len(tokens.render(caption)) - len(tokens.prefix)
        lines += [
            f"--- {len(tokens.prefix)} shared tokens and {own} of its own",
            tokens.text(caption),
        ]
    return "\n".join([*lines, "---", *_estimate(config, tokens, head, total)])


def _captions(source: Source, selection: Selection) -> tuple[list[str], int, int]:
    """The first `COUNTED` captions to parse, how many there are, and all unique captions."""
    head: list[str] = []
    total = unique = 0
    for rows, _, fresh in unique_captions(source.checked_rows(), selection.limit, selection.sample):
        for row in itertools.compress(rows, fresh.tolist()):
            unique += 1
            if screen(row.caption, row.problem) is None:
                total += 1
                if total <= COUNTED:
                    head.append(row.caption)
    if not unique:
        raise UserError(f"there are no captions in {', '.join(source.paths)}")
    return head, total, unique


def _estimate(config: LLMConfig, tokens: PromptTokens, head: list[str], total: int) -> list[str]:
    """Arithmetic, not a measurement: two operations a weight and prompt token; every weight is
    read once for a step that writes one token of each concurrent sequence.
    """
    if not head:
        return ["no caption to parse"]
    own = mean(len(tokens.render(caption)) - len(tokens.prefix) for caption in head)
    shown = [len(tokens.tokenizer.encode(e.answer)) for e in tokens.prompt.examples]
    out = mean(shown) if shown else ANSWER_TOKENS
    lines = [
        f"{own:.1f} prompt tokens a caption beside the shared ones, {total * own / 1e6:,.2f} M in all",
        f"about {out:.0f} tokens out a caption "
        f"({'as in the examples of the prompt' if shown else 'as measured on web captions'})",
    ]
    weights = count_weights(config.model)
    if weights is None:
        return [*lines, "no estimate of time: the model's size is not known here"]
    devices = config.model.tensor_parallel
    flops, bandwidth = (GPU_FLOPS, GPU_BYTES) if config.gpu else (CPU_FLOPS, CPU_BYTES)
    prefill = 2 * weights * (own + out) / (flops * devices)
    decode = 2 * weights * out / (bandwidth * devices) / config.batch
    rate = 1 / (prefill + decode)
    device = "GPU" if config.gpu else "CPU engine"
    hours = total / rate / 3600
    lines.append(
        f"estimate by arithmetic, {weights / 1e9:.2f} B weights: {rate:,.0f} captions/s an engine, "
        f"{duration(total / rate)} with one engine, {hours * devices:,.1f} {device}-hours"
    )
    return lines


def count_weights(model: Model) -> float | None:
    """Number of weights, counted on an empty model: nothing is loaded. None for a model that
    transformers doesn't know; it may run all the same.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        settings = AutoConfig.from_pretrained(model.folder(), revision=model.revision)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(settings)
    except (OSError, ValueError):
        return None
    return float(sum(p.numel() for p in empty.parameters()))
