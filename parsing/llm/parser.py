"""The LLM parser: a prompt, an answer of a few tokens, greedy decoding, a tolerant reader.

Section 3.1 of the TagAlign paper. What a model is asked stands in `prompts/`, or in the folder of a
model that was trained for the task; `parsing.llm.answers` reads what it answers.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError, reason
from parsing.llm import engine_arguments, student
from parsing.llm.constraint import words_regex
from parsing.llm.engine import Engine, EngineSettings
from parsing.llm.models import PRESETS, PROMPT, Model
from parsing.llm.prompt import Prompt, PromptTokens, load_prompt
from parsing.llm.questions import (
    Completion,
    Reader,
    code_digest,
    max_answer_tokens,
    sampling,
    unasked,
)
from parsing.normalise import Rules
from parsing.parser import Resources
from parsing.source.cleaning import clean
from parsing.tags import Parsed

if TYPE_CHECKING:
    from vllm import SamplingParams

CONSTRAINTS = ("none", "words")
_WARM_UP = "a brown dog on a wooden bench"  # its answer is thrown away


@dataclass(frozen=True)
class LLMConfig:
    """All that an LLM parser needs to be built on any machine.

    Attributes:
        model: the LLM.
        prompt: a prompt, the name of one in `prompts/`, or the path of a YAML file; None takes the one
            that the model was trained with, else `default`.
        constraint: "none" asks for no structured output; "words" holds an answer to its form and
            to runs of the caption's words. None takes "none" for a model that was trained for the
            task and "words" for any other.
        max_caption_tokens: a longer caption gets the status `too_long`.
        gpu: whether the engine runs on GPUs, `model.tensor_parallel` of them.
        cpus: cores that one engine takes; None leaves that to the cluster: all of a node where
            the engine computes on them, one where a GPU does.
        batch: concurrent sequences of one engine (`max_num_seqs`).
        batch_invariant: whether answers must not depend on what else is in the batch; needs GPUs.
        engine: `KEY=VALUE`, more arguments of vLLM's engine.
    """

    model: Model = PRESETS[student.NAME]
    prompt: Prompt | str | None = None
    constraint: str | None = None
    max_caption_tokens: int = 256
    gpu: bool = False
    cpus: float | None = None
    batch: int = 256
    batch_invariant: bool = False
    engine: tuple[str, ...] = ()
    name: str = "llm"
    concurrency: int = 2  # while one shard's last answers are written the next one's are begun

    def __post_init__(self) -> None:
        if self.max_caption_tokens < 1:
            raise UserError(
                f"--max-caption-tokens must be at least 1, not {self.max_caption_tokens}"
            )
        if self.constraint not in (None, *CONSTRAINTS):
            known = ", ".join(CONSTRAINTS)
            raise UserError(f"there is no constraint '{self.constraint}' (known: {known})")
        if not self.gpu and self.model.tensor_parallel > 1:
            raise UserError(
                f"the model {self.model.source} is set to span {self.model.tensor_parallel} GPUs, and "
                "there are none: add GPUs to the cluster, or give --tensor-parallel 1"
            )
        if self.batch < 1:
            raise UserError(f"--batch must be at least 1, not {self.batch}")
        if self.batch_invariant and not self.gpu:
            raise UserError(
                "--batch-invariant needs GPUs: vLLM's kernels for CPUs have no such mode, and their "
                "answers depend on the batch"
            )
        engine_arguments.given(self.engine)

    def check(self) -> None:
        self.model.check()
        self.model.provenance()
        self.load_prompt()
        if importlib.util.find_spec("vllm"):  # not on every driver
            engine_arguments.typed(self.engine)

    def pinned(self) -> LLMConfig:
        """See `ParserConfig`: the prompt itself, the model's commit and digest, the constraint."""
        if self.model.expected is not None:
            return self
        return replace(
            self,
            model=self.model.pinned(),
            prompt=self.load_prompt(),
            constraint="words" if self.constrained else "none",
        )

    def load_prompt(self) -> Prompt:
        """The prompt that `prompt` is or names.

        Raises:
            UserError: there is no such file, or it is no prompt.
        """
        if isinstance(self.prompt, Prompt):
            return self.prompt
        if self.prompt is not None:
            return load_prompt(self.prompt)
        own = self.model.file(PROMPT)
        return load_prompt("default" if own is None else str(own))

    @property
    def constrained(self) -> bool:
        """Whether answers are held to the caption's words while they are written."""
        if self.constraint is None:
            return self.model.file(PROMPT) is None
        return self.constraint == "words"

    def fingerprint(self) -> dict[str, Any]:
        """See `ParserConfig`; hardware, and settings that change no answer, are no part of it."""
        return {
            "parser": self.name,
            # A folder's name says nothing that its digest doesn't, and it may be moved.
            "model": None if Path(self.model.source).is_dir() else self.model.source,
            "revision": self.model.digest(),
            "conversation": self.model.conversation,
            "prompt": self.load_prompt().hash,
            "constraint": "words" if self.constrained else "none",
            "sampling": sampling(0),
            "max caption tokens": self.max_caption_tokens,
            "normalisation": Rules.load().digest,
            "code": code_digest(),
            "batch invariant": self.batch_invariant,
            "engine": engine_arguments.changing(self.engine),
        }

    def about(self) -> dict[str, Any]:
        """See `ParserConfig`: the model's name and, of a student, what it was trained on."""
        return {
            "model": self.model.source,
            "provenance": self.model.provenance(),
            "engine": engine_arguments.given(self.engine),
        }

    def resources(self) -> Resources:
        cpus = 1 if self.cpus is None and self.gpu else self.cpus
        return Resources(cpus=cpus, gpus=self.model.tensor_parallel if self.gpu else 0)

    def tokens(self) -> PromptTokens:
        """The prompt laid out for this model; loads its tokenizer but no weights.

        Raises:
            UserError: it has no tokenizer that can be loaded.
        """
        from transformers import AutoTokenizer

        where = {
            "pretrained_model_name_or_path": self.model.folder(),
            "revision": self.model.revision,
        }
        try:
            tokenizer = AutoTokenizer.from_pretrained(**where)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot load the tokenizer of {self.model.source}: {reason(error)}"
            ) from error
        return PromptTokens(self.load_prompt(), tokenizer, self.model.conversation)

    def settings(self, prefix_tokens: int) -> EngineSettings:
        """Engine settings with room for the prompt, the longest caption and its answer."""
        context = (
            prefix_tokens
            + 64
            + self.max_caption_tokens
            + max_answer_tokens(self.max_caption_tokens)
        )
        return EngineSettings(
            tensor_parallel=self.model.tensor_parallel,
            context=-(-context // 32) * 32,
            batch=self.batch,
            prefix_tokens=prefix_tokens,
            gpus=self.model.tensor_parallel if self.gpu else 0,
            batch_invariant=self.batch_invariant,
            own=self.engine,
        )

    def build(self) -> LLMParser:
        return LLMParser(self)


class Requests:
    """What an engine is asked for a caption."""

    def __init__(self, config: LLMConfig):
        self.tokens = config.tokens()
        self.form = self.tokens.prompt.form
        self._limit = config.max_caption_tokens
        self._constrained = config.constrained

    def request(self, caption: str) -> Parsed | tuple[list[int], SamplingParams]:
        """Token ids and sampling parameters; or the caption's result where nothing is asked."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        prompt = self.tokens.render(caption)
        size = len(prompt) - len(self.tokens.prefix)
        if (result := unasked(caption, size, self._limit)) is not None:
            return result
        params = SamplingParams(
            **sampling(size),
            stop=self.tokens.stop,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        if self._constrained:
            expression = words_regex(clean(caption), self.form)
            params.structured_outputs = StructuredOutputsParams(regex=expression)
        return prompt, params


class LLMParser:
    """See the module. Several threads may call `parse` at once."""

    def __init__(self, config: LLMConfig):
        config = config.pinned()  # what the tokenizer is of, the weights are of
        self._requests = Requests(config)
        self._reader = Reader(self._requests.form)
        self._lock = threading.Lock()
        prefix = len(self._requests.tokens.prefix)
        self._engine = Engine(config.model.folder(), config.model.revision, config.settings(prefix))
        # One prompt goes ahead, so that the shared prefix is in the cache before the flood comes.
        self._finished = self._output_tokens = 0
        self.parse([_WARM_UP])
        self._finished = self._output_tokens = 0

    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        results: list[Parsed | None] = []
        asked, prompts, params = [], [], []
        for number, caption in enumerate(captions):
            request = self._requests.request(caption)
            results.append(request if isinstance(request, Parsed) else None)
            if results[-1] is None:
                asked.append(number)
                prompts.append(request[0])
                params.append(request[1])
        answers = self._engine.answer(prompts, params, self._count)
        for number, prompt, answer in zip(asked, prompts, answers, strict=True):
            results[number] = self._reader.read(captions[number], len(prompt), answer)
        return results

    def tally(self) -> tuple[int, int]:
        """Captions answered and output tokens so far."""
        return self._finished, self._output_tokens

    def close(self) -> None:
        self._engine.close()

    def _count(self, answer: Completion) -> None:
        with self._lock:
            self._finished += 1
            self._output_tokens += answer.tokens
