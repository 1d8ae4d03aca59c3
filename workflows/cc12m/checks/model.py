"""The model: there, readable, divisible by the GPUs of an engine, and small enough for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig

from common.errors import UserError, reason
from parsing.job.dry_run import count_weights
from parsing.llm.engine import EngineSettings
from parsing.llm.models import Model
from parsing.llm.parser import LLMConfig
from workflows.cc12m.checks.finding import Finding, failed, ok, warning

OVERHEAD = 4e9  # bytes of a GPU for activations, CUDA graphs and NCCL; assumed
ANSWER = 48  # tokens of a caption and its answer, in cache blocks of 16; see README.md
SHARE = EngineSettings.gpu_memory  # of a GPU that vLLM may fill


@dataclass(frozen=True)
class Decoder:
    """What of a model decides whether it fits.

    Attributes:
        parameters: number of weights.
        weights: bytes of all of them.
        heads, kv_heads: of its attention; fewer `kv_heads` than `heads` is grouped-query.
        kv_bytes: bytes of keys and values of one token, 2 * layers * kv_heads * head_dim * 2.
        context: the most tokens that it was made for.
    """

    parameters: float
    weights: float
    heads: int
    kv_heads: int
    kv_bytes: float
    context: int

    @classmethod
    def of_config(cls, config: Any, parameters: float) -> Decoder:
        """From a Hugging Face config of a decoder.

        Raises:
            UserError: it does not say what a decoder's config says.
        """
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        try:
            heads = config.num_attention_heads
            kv_heads = getattr(config, "num_key_value_heads", None) or heads
            head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
            kv_bytes = 2 * config.num_hidden_layers * kv_heads * head_dim * 2
            weights = parameters * _weight_bytes(getattr(config, "quantization_config", None))
            return cls(
                parameters, weights, heads, kv_heads, kv_bytes, config.max_position_embeddings
            )
        except AttributeError as error:
            raise UserError(f"the model's config.json is no decoder's: {error}") from error

    def splits_over(self, gpus: int) -> bool:
        """Whether vLLM can divide it between so many GPUs: heads are never cut."""
        return self.heads % gpus == 0 and (self.kv_heads % gpus == 0 or gpus % self.kv_heads == 0)

    def cached_tokens(self, gpu_memory: float, gpus: int) -> float:
        """Tokens whose keys and values fit beside the weights on so many GPUs; may be negative."""
        free = gpus * (gpu_memory * SHARE - OVERHEAD) - self.weights
        # With more GPUs than key heads, each key head is kept on several of them.
        return free / (self.kv_bytes * max(1, gpus // self.kv_heads))


def _weight_bytes(quantisation: Any) -> float:
    """2, or what a quantised checkpoint's config says; its scales are 10% of a 4-bit model."""
    if quantisation is None:
        return 2
    values = quantisation if isinstance(quantisation, dict) else quantisation.to_dict()
    bits = values.get("bits") or values.get("w_bit")
    method = str(values.get("quant_method", ""))
    if bits is None and method in ("fp8", "compressed-tensors", "fbgemm_fp8"):
        groups = (values.get("config_groups") or {}).values()
        bits = next((g["weights"]["num_bits"] for g in groups if g.get("weights")), 8)
    return 2 if bits is None else bits / 8 * (1.1 if bits < 8 else 1)


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
    prefix = len(config.tokens().prefix)
    context = config.settings(prefix).context
    yield ok(
        f"{model.source} ({digest[:12]}): {decoder.parameters / 1e9:.2f} B weights, "
        f"{prefix} shared tokens, at most {context:,} in all"
    )
    if context > decoder.context:
        yield failed(
            f"prompt, longest caption and answer take {context:,} tokens, and the model was made for "
            f"{decoder.context:,}: give a smaller --max-caption-tokens or a shorter prompt"
        )
    tp = model.tensor_parallel
    if config.gpu and not decoder.splits_over(tp):
        fits = [n for n in (1, 2, 4, 8) if decoder.splits_over(n)]
        yield failed(
            f"its {decoder.heads} heads of attention cannot be divided between {tp} GPUs: give "
            f"--tensor-parallel {' or '.join(map(str, fits))}"
        )
    elif config.gpu and gpu_memory:
        yield _memory(config, decoder, gpu_memory, prefix)


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


def _memory(config: LLMConfig, decoder: Decoder, gpu_memory: int, prefix: int) -> Finding:
    tp = config.model.tensor_parallel
    share = f"{decoder.weights / tp / 1e9:.1f} GB of weights on each"
    least = prefix + ANSWER
    room = decoder.cached_tokens(gpu_memory, tp)
    if room < least:
        enough = [n for n in (2, 4, 8) if n > tp and decoder.splits_over(n)
                  and decoder.cached_tokens(gpu_memory, n) > least]  # fmt: skip
        advice = f"give --tensor-parallel {enough[0]}" if enough else "take a quantised copy"
        return failed(
            f"{share} GPU leave no room for an answer in {SHARE:.0%} of {gpu_memory / 1e9:.1f} GB: "
            f"{advice}"
        )
    answers = (room - prefix) / ANSWER
    text = f"{share} of {tp} GPUs, and room for about {answers:,.0f} concurrent answers"
    if answers >= config.batch:
        return ok(text)
    return warning(
        f"{text}, fewer than --batch {config.batch}: give a larger --tensor-parallel, or a smaller "
        "--batch"
    )
