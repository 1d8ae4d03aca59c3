"""A vLLM engine that several threads may ask at once.

The engine itself runs in processes of its own; here an event loop in a background thread feeds it
and collects answers. Every request of every caller goes into one queue, so while one shard's last
answers are still being written the next shard's prompts already fill the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import EngineDied, UserError
from common.event_loop import EventLoop
from common.quiet import output_in_file
from parsing.llm.card import Card
from parsing.llm.constraint import BACKEND
from parsing.llm.engine_arguments import typed
from parsing.llm.guard import Guard
from parsing.llm.questions import Completion

if TYPE_CHECKING:
    from vllm import SamplingParams


_BLOCK = 32  # tokens of one block of the prefix cache on the CPU


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is run; of this, only `batch_invariant` and `own` can change what it answers.

    Attributes:
        tensor_parallel: GPUs that the model is split over.
        context: tokens of prompt and answer together.
        batch: concurrent sequences (`max_num_seqs`).
        prefix_tokens: tokens that all prompts begin with. Prefix caching is off where they don't fill
            a block: hashing every prompt would cost time and find nothing.
        gpus: 0 runs on the CPU.
        kv_cache_gb: room for keys and values on the CPU, GB.
        gpu_memory: share of each GPU's memory that the engine may fill.
        batch_invariant: whether answers must not depend on what else is in the batch.
        own: `KEY=VALUE`, see `parsing.llm.engine_arguments`; they override all others.
    """

    tensor_parallel: int = 1
    context: int = 2048
    batch: int = 256
    prefix_tokens: int = 0
    gpus: int = 0
    kv_cache_gb: int = 2
    gpu_memory: float = 0.92
    batch_invariant: bool = False
    own: tuple[str, ...] = ()

    def arguments(self, model: str, revision: str | None, card: Card) -> dict[str, Any]:
        """Keyword arguments of vLLM's engine, offline or asynchronous.

        Raises:
            UserError: see `engine_arguments.typed`; or the card has no batch-invariant kernels.
        """
        if self.batch_invariant and not card.batch_invariant:
            raise UserError(
                "--batch-invariant needs a GPU of compute capability 8.0 or more (A100, H100, L4): "
                "vLLM has such kernels for no other device"
            )
        common = {
            "model": model,
            "revision": revision,
            "dtype": card.dtype,
            "tensor_parallel_size": self.tensor_parallel,
            # All GPUs of an engine are its actor's own: vLLM would ask Ray for others where it
            # finds fewer, or a placement group.
            "distributed_executor_backend": "mp" if self.tensor_parallel > 1 else "uni",
            # Left to itself vLLM chooses by the first request, and differently with every release.
            "structured_outputs_config": {"backend": BACKEND},
            "max_num_batched_tokens": card.tokens_at_once(self.batch),
            "max_model_len": self.context,
            "max_num_seqs": self.batch,
            "enable_prefix_caching": self.prefix_tokens >= _BLOCK,
            "disable_log_stats": True,
        }
        if self.gpus:
            return common | {"gpu_memory_utilization": self.gpu_memory} | typed(self.own)
        # Prefixes are cached in whole blocks: the CPU's default of 128 tokens recomputes up to 127
        # of a prompt's shared tokens for every caption. 16 is not supported there. Compiling takes
        # minutes and pays on long runs of large models only.
        return common | {"block_size": _BLOCK, "enforce_eager": True} | typed(self.own)


class Engine:
    """One vLLM engine.

    Args:
        model, revision: hub id or local folder, and its revision.
        settings: how to run it.

    Raises:
        UserError: the engine does not start; the sentence holds the engine's own reason.
    """

    def __init__(self, model: str, revision: str | None, settings: EngineSettings):
        prepare_environment(settings)
        arguments = settings.arguments(model, revision, Card.here(settings.gpus))
        self._guard = Guard()
        self._ids = itertools.count()
        self._loop = EventLoop()
        try:
            with output_in_file("engine") as log:
                self._log = log
                try:
                    self._llm = self._loop.run(self._start(arguments))
                except Exception as error:  # vLLM raises whatever its parts raise
                    raise UserError(f"the engine did not start: {_cause(log, error)}") from error
        except BaseException:
            self._loop.close()
            self._guard.close()
            raise

    def answer(
        self,
        prompts: Sequence[list[int]],
        params: Sequence[SamplingParams],
        each: Callable[[Completion], None] = lambda answer: None,
    ) -> list[Completion]:
        """Answers to prompts of token ids, in their order; callable from many threads at once.

        Args:
            each: called with every answer as it comes.

        Raises:
            EngineDied: the engine is gone.
        """
        return self._loop.run(self._answer_all(prompts, params, each))

    def close(self) -> None:
        self._loop.run(self._shut_down())
        self._loop.close()
        self._guard.close()
        with contextlib.suppress(OSError):
            os.unlink(self._log)

    async def _start(self, arguments: dict[str, Any]):
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

    async def _shut_down(self) -> None:
        self._llm.shutdown()
        del self._llm  # now, while its finaliser still can run

    async def _answer_all(self, prompts, params, each) -> list[Completion]:
        async def one(prompt, param) -> Completion:
            answer = await self._answer(prompt, param)
            each(answer)
            return answer

        return await asyncio.gather(*map(one, prompts, params))

    async def _answer(self, prompt: list[int], params: SamplingParams) -> Completion:
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        final = None
        try:
            request = tokens_input(prompt)
            async for output in self._llm.generate(request, params, str(next(self._ids))):
                final = output
        except EngineDeadError as error:
            raise EngineDied("the engine's process is gone") from error
        except Exception as error:  # this prompt's own fault: the engine goes on
            if self._llm.errored:
                raise EngineDied("the engine's process is gone") from error
            return Completion("", 0, False, error=str(error).strip() or type(error).__name__)
        output = final.outputs[0]
        return Completion(output.text, len(output.token_ids), output.finish_reason != "length")


def prepare_environment(settings: EngineSettings) -> None:
    """What vLLM reads from the environment; what the user has set stays."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if settings.batch_invariant:
        os.environ["VLLM_BATCH_INVARIANT"] = "1"
    if not settings.gpus:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.kv_cache_gb))
        # Binding to cores by number is wrong where Ray has given this actor some of them.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def _cause(log: str, error: Exception) -> str:
    """The innermost error in the engine's log, else the error itself, as one line."""
    with open(log, errors="replace") as file:
        lines = re.findall(r"(?:^|\s)((?:[\w.]+\.)?\w+(?:Error|Exception): .+)$", file.read(), re.M)
    causes = [line for line in lines if "Engine core init" not in line]
    return f"{causes[-1] if causes else str(error).splitlines()[0]} (its log: {log})"
