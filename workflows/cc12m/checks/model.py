"""The model: there, readable, divisible by the GPUs of an engine, and small enough for them."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import AutoConfig

from parsing.dry_run import count_weights
from parsing.errors import UserError, reason
from parsing.llm_parser import LLMConfig
from parsing.models import Model
from workflows.cc12m.arithmetic import GPU_MEMORY_SHARE, Decoder, Work
from workflows.cc12m.checks.finding import FAILED, OK, WARNING, Finding

CHECK = "model"
TYPICAL = (31, 20)  # tokens of a caption's own and of its answer, see README.md


def check_model(config: LLMConfig, gpu_memory: int | None) -> Iterator[Finding]:
    """Reads the model's config and tokenizer, and lays the prompt out for it; loads no weights.

    Args:
        config: the parser as the run will have it.
        gpu_memory: bytes of the smallest GPU; None where the engine runs on the CPU, or none is known.

    Raises:
        UserError: there is no such model, prompt or tokenizer.
    """
    model = config.model
    digest = model.digest()
    decoder = read_decoder(model)
    tokens = config.tokens()
    settings = config.settings(len(tokens.prefix))
    yield Finding(
        CHECK,
        OK,
        f"{model.source} ({digest[:12]}): {decoder.parameters / 1e9:.2f} B weights, "
        f"{len(tokens.prefix)} shared tokens, at most {settings.context:,} in all",
    )
    if settings.context > decoder.context:
        yield Finding(
            CHECK,
            FAILED,
            f"prompt, longest caption and answer take {settings.context:,} tokens, and the model was "
            f"made for {decoder.context:,}: give a smaller --max-caption-tokens or a shorter prompt",
        )
    tp = model.tensor_parallel
    if config.gpu and not decoder.splits_over(tp):
        fits = [n for n in (1, 2, 4, 8) if decoder.splits_over(n)]
        yield Finding(
            CHECK,
            FAILED,
            f"its {decoder.heads} heads of attention cannot be shared by {tp} GPUs: give "
            f"--tensor-parallel {' or '.join(map(str, fits))}",
        )
    elif config.gpu and gpu_memory:
        yield from _memory(config, decoder, gpu_memory, Work(len(tokens.prefix), *TYPICAL))


def read_decoder(model: Model) -> Decoder:
    """What the model's config says.

    Raises:
        UserError: it has none that transformers can read.
    """
    try:
        config = AutoConfig.from_pretrained(model.folder(), revision=model.revision)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"cannot read the config.json of {model.source}: {reason(error)}; is the model complete?"
        ) from error
    parameters = count_weights(model)
    if parameters is None:
        raise UserError(
            f"transformers does not know the architecture of {model.source}: name another --model"
        )
    return Decoder.of_config(config, parameters)


def _memory(config: LLMConfig, decoder: Decoder, gpu_memory: int, work: Work) -> Iterator[Finding]:
    tp = config.model.tensor_parallel
    share = decoder.weights / tp
    room = decoder.cached_tokens(gpu_memory, tp)
    if room < work.prefix + work.held:
        enough = [n for n in (2, 4, 8) if n > tp and decoder.splits_over(n)
                  and decoder.cached_tokens(gpu_memory, n) > work.prefix + work.held]  # fmt: skip
        advice = f"give --tensor-parallel {enough[0]}" if enough else "take a quantised copy"
        yield Finding(
            CHECK,
            FAILED,
            f"{share / 1e9:.1f} GB of weights on each GPU leave no room for an answer in "
            f"{GPU_MEMORY_SHARE:.0%} of {gpu_memory / 1e9:.1f} GB: {advice}",
        )
        return
    answers = (room - work.prefix) / work.held
    text = (
        f"{share / 1e9:.1f} GB of weights on each of {tp} GPUs, and room for about {answers:,.0f} "
        f"answers at a time"
    )
    if answers < config.batch:
        yield Finding(CHECK, WARNING, f"{text}, fewer than --batch {config.batch}: give a larger "
                      "--tensor-parallel, or a smaller --batch")  # fmt: skip
    else:
        yield Finding(CHECK, OK, text)
