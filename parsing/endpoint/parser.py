"""The LLM parser with a server in place of an engine: the same prompts and the same reader."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from parsing.endpoint.client import Client, completions_of
from parsing.endpoint.server import Server
from parsing.llm.constraint import words_regex
from parsing.llm.models import PRESETS, PROMPT, find_model
from parsing.llm.parser import CONSTRAINTS
from parsing.llm.prompt import Prompt, PromptText, load_prompt
from parsing.llm.questions import Completion, Reader, code_digest, sampling, unasked
from parsing.normalise import Rules
from parsing.parser import Resources
from parsing.source.cleaning import clean
from parsing.tags import Parsed
from parsing.versions import digest_of

START_SECONDS = 30  # for a server's first answer, when a run begins
_BYTES = 4  # of UTF-8 in a token, about: only the server has the tokenizer
_WARM_UP = "a brown dog on a wooden bench"  # its answer is thrown away


@dataclass(frozen=True)
class EndpointConfig:
    """All that a client of a server needs to be built on any machine.

    Attributes:
        server: where, and how many requests at once.
        prompt: as in `LLMConfig`. A prompt without a `conversation` goes to `/chat/completions`, where
            the server lays it out; any other goes to `/completions` as text.
        constraint: "words" asks for structured output as vLLM's server takes it; None is "none", which
            every server takes.
        max_caption_tokens: a longer caption gets the status `too_long`; its tokens are estimated.

    Raises:
        UserError: an unknown constraint, or a number out of its range.
    """

    server: Server
    prompt: Prompt | str | None = None
    constraint: str | None = None
    max_caption_tokens: int = 256
    name: str = "endpoint"
    concurrency: int = 2

    def __post_init__(self) -> None:
        if self.constraint not in (None, *CONSTRAINTS):
            known = ", ".join(CONSTRAINTS)
            raise UserError(f"there is no constraint '{self.constraint}' (known: {known})")
        if self.max_caption_tokens < 1:
            raise UserError(
                f"--max-caption-tokens must be at least 1, not {self.max_caption_tokens}"
            )

    def check(self) -> None:
        # Nodes may reach a server that the driver can't reach, so actors check whether it answers.
        self.load_prompt()

    def pinned(self) -> EndpointConfig:
        return replace(self, prompt=self.load_prompt())

    def load_prompt(self) -> Prompt:
        """The prompt that `prompt` is or names.

        Raises:
            UserError: there is no such file, or it is no prompt.
        """
        if isinstance(self.prompt, Prompt):
            return self.prompt
        name, served = self.prompt, self.server.model
        if name is None and (served in PRESETS or Path(served).is_dir()):
            own = find_model(served).file(PROMPT)
            name = None if own is None else str(own)
        return load_prompt(name or "default")

    def fingerprint(self) -> dict[str, Any]:
        """See `ParserConfig`. Which weights the model's name stands for, only the server knows."""
        return {
            "parser": self.name,
            "model": self.server.model,
            "prompt": self.load_prompt().hash,
            "constraint": self.constraint or "none",
            "sampling": sampling(0),
            "max caption tokens": self.max_caption_tokens,
            "normalisation": Rules.load().digest,
            "code": code_digest() + digest_of(Questions, completions_of),
        }

    def about(self) -> dict[str, Any]:
        """See `ParserConfig`; the key is no part of it."""
        return {"model": self.server.model, "endpoint": self.server.url}

    def resources(self) -> Resources:
        return Resources(cpus=1, most=1)

    def build(self) -> EndpointParser:
        return EndpointParser(self)


class Questions:
    """What a server is asked for a caption."""

    def __init__(self, config: EndpointConfig):
        self._prompt = PromptText(config.load_prompt())
        self._limit = config.max_caption_tokens
        self._constrained = config.constraint == "words"
        self.form = self._prompt.prompt.form
        self.path = "/chat/completions" if self._prompt.is_chat else "/completions"

    def body(self, caption: str) -> Parsed | dict[str, Any]:
        """JSON of the request; or the caption's result where nothing is asked."""
        text = clean(caption)
        size = -(-len(text.encode()) // _BYTES)
        if (result := unasked(caption, size, self._limit)) is not None:
            return result
        body = sampling(size) | {"stop": self._prompt.stop}
        if self._prompt.is_chat:
            body["messages"] = self._prompt.messages(caption)
        else:
            body["prompt"] = self._prompt.text(caption)
        if self._constrained:
            body["structured_outputs"] = {"regex": words_regex(text, self.form)}
        return body

    def read(self, completion: Completion) -> Completion:
        """The answer without the label that a chat may have begun it with."""
        label = self._prompt.prompt.answer_label
        return replace(completion, text=completion.text.strip().removeprefix(label))


class EndpointParser:
    """See the module. Several threads may call `parse` at once.

    Raises:
        UserError: the server does not answer, or refuses the key or the model's name.
    """

    def __init__(self, config: EndpointConfig):
        self._questions = Questions(config)
        self._reader = Reader(self._questions.form)
        self._lock = threading.Lock()
        self._finished = self._output_tokens = 0
        self._try(config.server)
        self._client = Client(config.server, self._questions.path)

    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        results: list[Parsed | None] = []
        bodies = []
        for caption in captions:
            body = self._questions.body(caption)
            results.append(body if isinstance(body, Parsed) else None)
            bodies += [body] if results[-1] is None else []
        answers = iter(self._client.answer(bodies, self._count))
        for number, caption in enumerate(captions):
            if results[number] is None:
                answer = self._questions.read(next(answers))
                results[number] = self._reader.read(caption, answer.prompt_tokens, answer)
        return results

    def tally(self) -> tuple[int, int]:
        """Captions answered and output tokens so far."""
        return self._finished, self._output_tokens

    def close(self) -> None:
        self._client.close()

    def _try(self, server: Server) -> None:
        """Sends one question first: a wrong URL, key or name must not fail a million rows."""
        client = Client(replace(server, patience=START_SECONDS), self._questions.path)
        try:
            answer = client.answer([self._questions.body(_WARM_UP)])[0]
        finally:
            client.close()
        if answer.error is not None:
            raise UserError(f"{server.url} answers no caption: {answer.error}")

    def _count(self, answer: Completion) -> None:
        with self._lock:
            self._finished += 1
            self._output_tokens += answer.tokens
