"""The device that an engine computes on, as far as its settings depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import UserError

GIB = 1 << 30
_LARGE = 70 * GIB


@dataclass(frozen=True)
class Card:
    """One of an engine's devices; all of one engine are taken to be alike.

    Attributes:
        dtype: that weights and activations have, by vLLM's names: bfloat16, which most models are
            published in, or float16 on cards before Ampere (T4, V100), which cannot compute in it.
        most_tokens: that it computes well in one step; 0 for a CPU. As vLLM's own defaults for
            `vllm.LLM`: A100 get slower with more, whatever their memory.
        batch_invariant: whether vLLM has kernels for it whose results don't depend on the batch.
    """

    dtype: str = "bfloat16"
    most_tokens: int = 0
    batch_invariant: bool = False

    @classmethod
    def here(cls, gpus: int) -> Card:
        """The device of this process.

        Args:
            gpus: how many the engine gets; 0 is the CPU.

        Raises:
            UserError: the card computes in neither 16-bit format.
        """
        if not gpus:
            return cls()
        import torch
        from vllm.platforms import current_platform

        known = current_platform.supported_dtypes
        names = {torch.bfloat16: "bfloat16", torch.float16: "float16"}
        usable = [name for dtype, name in names.items() if dtype in known]
        if not usable:
            raise UserError(
                f"the GPU {current_platform.get_device_name()} computes neither in bfloat16 nor in "
                "float16: take another node, or give --device cpu"
            )
        # vLLM's kernels for it are written for Ampere and later, and for AMD's and Intel's cards.
        invariant = current_platform.is_rocm() or current_platform.is_xpu()
        invariant = invariant or current_platform.has_device_capability(80)
        large = current_platform.get_device_total_memory() >= _LARGE
        large = large and not (
            current_platform.is_cuda() and not current_platform.has_device_capability(90)
        )
        return cls(usable[0], 16_384 if large else 8192, invariant)

    def tokens_at_once(self, batch: int) -> int:
        """Tokens of one step of the engine (`max_num_batched_tokens`), for so many sequences.

        While some sequences write one token each, the captions that take the place of finished ones
        are read: some 30 tokens each. A GPU that may only take 2,048 reads the captions of a full
        batch in several steps.
        """
        if not self.most_tokens:
            return max(4096, batch)
        return max(min(32 * batch, self.most_tokens), 2048, batch)
