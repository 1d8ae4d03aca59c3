"""What a decoder and a GPU cost and carry: the arithmetic behind `estimate.py` and `preflight.py`.

Nothing in here was measured on GPUs. Every function says its formula, so that it can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parsing.errors import UserError

GPU_MEMORY_SHARE = 0.92  # that `parsing.engine.EngineSettings` lets vLLM fill
BLOCK = 16  # tokens of a cache block on a GPU, vLLM's default
OVERHEAD = 4e9  # bytes a GPU for activations, CUDA graphs and NCCL; assumed


@dataclass(frozen=True)
class Gpu:
    """A card as its data sheet has it.

    Attributes:
        name: for people.
        memory: bytes that a program sees.
        flops: dense bfloat16 operations a second.
        bandwidth: bytes a second from its memory.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float


GPUS = {
    "a100": Gpu("A100 80 GB SXM", 79.2 * 2**30, 312e12, 2.04e12),
    "h100": Gpu("H100 80 GB SXM", 79.2 * 2**30, 989e12, 3.35e12),
    "h200": Gpu("H200 141 GB SXM", 139.8 * 2**30, 989e12, 4.8e12),
}


@dataclass(frozen=True)
class Decoder:
    """What of an LLM decides its cost.

    Attributes:
        parameters: number of weights.
        layers, width: of the transformer.
        heads, kv_heads, head_dim: of its attention; fewer `kv_heads` than `heads` is grouped-query.
        context: the most tokens that it was made for.
        weight_bytes: bytes a weight: 2 in bfloat16, 1 in 8 bits, about 0.55 with 4-bit groups.
        cache_bytes: bytes a number of the cache.
    """

    parameters: float
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    weight_bytes: float = 2
    cache_bytes: float = 2

    @classmethod
    def of_config(cls, config: Any, parameters: float) -> Decoder:
        """From a Hugging Face config of a decoder.

        Raises:
            UserError: it does not say what a decoder's config says.
        """
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        try:
            heads, width = config.num_attention_heads, config.hidden_size
            return cls(
                parameters,
                config.num_hidden_layers,
                width,
                heads,
                getattr(config, "num_key_value_heads", None) or heads,
                getattr(config, "head_dim", None) or width // heads,
                config.max_position_embeddings,
                weight_bytes=_weight_bytes(getattr(config, "quantization_config", None)),
            )
        except AttributeError as error:
            raise UserError(f"the model's config.json is no decoder's: {error}") from error

    @property
    def weights(self) -> float:
        """Bytes of all weights."""
        return self.parameters * self.weight_bytes

    @property
    def kv_bytes(self) -> float:
        """Bytes of keys and values of one token: 2 * layers * kv_heads * head_dim * bytes."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.cache_bytes

    def flops(self, tokens: float, attended: float) -> float:
        """Operations to put tokens through the model, each attending to so many.

        Two a weight and token; 4 * layers * heads * head_dim a token and attended token.
        """
        attention = 4 * self.layers * self.heads * self.head_dim * attended
        return tokens * (2 * self.parameters + attention)

    def splits_over(self, gpus: int) -> bool:
        """Whether vLLM can share it between so many GPUs: heads are never cut."""
        return self.heads % gpus == 0 and (self.kv_heads % gpus == 0 or gpus % self.kv_heads == 0)

    def cached_tokens(self, gpu_memory: float, gpus: int) -> float:
        """Tokens whose keys and values fit beside the weights on so many GPUs; may be negative."""
        free = gpus * (gpu_memory * GPU_MEMORY_SHARE - OVERHEAD) - self.weights
        # A key head that is not there for every GPU is kept on several of them.
        copies = max(1, gpus // self.kv_heads)
        return free / (self.kv_bytes * copies)


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


# lmsys/vicuna-33b-v1.3, as its config.json has it: 60 layers of width 6,656, 52 heads of 128, no
# grouped-query attention, feed-forward of 17,920, 32,000 words, embeddings in and out apart.
VICUNA_33B = Decoder(
    parameters=60 * (4 * 6656**2 + 3 * 6656 * 17_920 + 2 * 6656) + 2 * 32_000 * 6656 + 6656,
    layers=60,
    width=6656,
    heads=52,
    kv_heads=52,
    head_dim=128,
    context=2048,
)


@dataclass(frozen=True)
class Work:
    """What one caption is to a model, in tokens.

    Attributes:
        prefix: rules and examples, the same for every caption: read once, then cached.
        own: of the caption's own part of the prompt.
        out: of the answer.
    """

    prefix: float
    own: float
    out: float

    @property
    def held(self) -> float:
        """Tokens of the cache that one answer in the making holds of its own, in whole blocks."""
        return -(-(self.own + self.out) // BLOCK) * BLOCK


@dataclass(frozen=True)
class Efficiency:
    """How much of a data sheet a real engine reaches.

    Attributes:
        flops: share of the operations a second (MFU).
        bandwidth: share of the bytes a second.
        prefix_once: whether a step reads the shared prefix's keys and values from memory once
            (they stay in the GPU's own cache, or cascade attention is on), or once for each answer.
    """

    flops: float
    bandwidth: float
    prefix_once: bool


@dataclass(frozen=True)
class Parsing:
    """Seconds that one caption takes one engine; the engine does nothing else meanwhile.

    Attributes:
        prefill: to read the caption.
        decode: its share of the steps that write answers.
        step_bytes: that one such step reads from memory, on all GPUs of the engine.
    """

    prefill: float
    decode: float
    step_bytes: float

    @property
    def rate(self) -> float:
        """Captions a second of one engine."""
        return 1 / (self.prefill + self.decode)


def parse_caption(
    model: Decoder, gpu: Gpu, gpus: int, batch: int, work: Work, reached: Efficiency
) -> Parsing:
    """What a caption costs an engine that spans `gpus` GPUs and has `batch` answers in the making.

    Prefill is bound by operations. A decoding step writes one token of each answer; it reads all
    weights and the cached keys and values, and is bound by that or by its operations.
    """
    flops = gpus * gpu.flops * reached.flops
    bandwidth = gpus * gpu.bandwidth * reached.bandwidth
    prefill = model.flops(work.own, work.prefix + work.own / 2) / flops
    written = work.own + work.out / 2  # what an answer has of its own, halfway
    read = batch * written + work.prefix * (1 if reached.prefix_once else batch)
    step_bytes = model.weights + read * model.kv_bytes
    step_flops = model.flops(batch, work.prefix + written)
    step = max(step_bytes / bandwidth, step_flops / flops)
    return Parsing(prefill, work.out * step / batch, step_bytes)
