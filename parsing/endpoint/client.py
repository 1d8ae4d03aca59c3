"""A client of an OpenAI-compatible server: many requests at once, and patience with the server.

The `openai` package sends a request again, after growing pauses, where the server says 429 or 5xx,
breaks off or takes too long. What is decided here is what comes after that: a request that goes on
failing while others are answered is its caption's own fault, and that row fails; a server that
answers nobody is waited for, and at last ends the run with a sentence, so that no caption is given up
for a fault of the server.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import openai

from common.errors import UserError
from common.event_loop import EventLoop
from parsing.endpoint.server import Server
from parsing.llm.questions import Completion

TRIES = 5  # of one request, half a second to eight seconds apart, by the library
ROUNDS = 2  # of tries of a request that fails while others are answered
PAUSE_SECONDS = 5.0  # between two rounds, at least
KEY = "OPENAI_API_KEY"  # environment variable, sent as a bearer token
BAD_IN_A_ROW = 100  # answers without a text that are taken for the captions' fault


class Client:
    """See the module. Several threads may call `answer` at once."""

    def __init__(self, server: Server):
        self._server = server
        self._loop = EventLoop()
        self._answered = time.monotonic()  # when the server last answered anybody
        self._bad = 0  # answers without a text since the last one with one
        self._loop.run(self._open())

    def answer(
        self,
        path: str,
        bodies: Sequence[dict[str, Any]],
        each: Callable[[Completion], None] = lambda answer: None,
    ) -> list[Completion]:
        """Answers to requests, in their order.

        Args:
            path: `/completions` or `/chat/completions`.
            bodies: JSON of the requests; the model's name is added.
            each: called with every answer as it comes.

        Raises:
            UserError: the server is gone, does not know the model, or refuses the key.
        """
        return self._loop.run(self._answer_all(path, bodies, each))

    def close(self) -> None:
        self._loop.run(self._client.close())
        self._loop.close()

    async def _open(self) -> None:
        self._slots = asyncio.Semaphore(self._server.batch)
        self._client = openai.AsyncOpenAI(
            base_url=self._server.url,
            # A secret is no part of a configuration; see `parsing.job.secrets`.
            api_key=os.environ.get(KEY) or "none",
            timeout=self._server.timeout,
            max_retries=TRIES - 1,
        )

    async def _answer_all(self, path, bodies, each) -> list[Completion]:
        async def one(body) -> Completion:
            async with self._slots:
                answer = await self._answer(path, body)
            each(answer)
            return answer

        tasks = [asyncio.create_task(one(body)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            raise

    async def _answer(self, path: str, body: dict[str, Any]) -> Completion:
        began = time.monotonic()
        for failures in range(1, 1 << 30):
            try:
                data = await self._client.post(
                    path, body={"model": self._server.model, **body}, cast_to=object
                )
            except (
                openai.AuthenticationError,
                openai.PermissionDeniedError,
                openai.NotFoundError,
            ) as error:
                raise UserError(f"the endpoint {self._server.url} {_said(error)}") from error
            except (
                openai.RateLimitError,
                openai.InternalServerError,
                openai.APIConnectionError,
            ) as error:
                # A limit on the rate says nothing about the caption, however often it is met.
                limited = isinstance(error, openai.RateLimitError)
                others = self._answered > began
                if others and not limited and failures >= ROUNDS:
                    return _failed(f"the endpoint {_said(error)}, {failures * TRIES} times")
                silent = time.monotonic() - max(self._answered, began)
                if silent > self._server.patience:
                    raise UserError(
                        f"the endpoint {self._server.url} has answered nothing for {silent:.0f} s: it "
                        f"{_said(error)}"
                    ) from error
                pause = min(PAUSE_SECONDS, self._server.patience / 4)
                await asyncio.sleep(pause * random.uniform(1, 2))  # not all at once
            except openai.APIStatusError as error:  # this request's own fault
                return self._noted(_failed(f"the endpoint {_said(error)}"))
            except ValueError as error:  # no JSON
                return self._noted(_failed(f"the endpoint's answer is not JSON: {error}"))
            else:
                return self._noted(completion_of(data))
        raise AssertionError

    def _noted(self, answer: Completion) -> Completion:
        """Raises `UserError` where the server answers, and nothing but nonsense."""
        self._answered = time.monotonic()
        self._bad = 0 if answer.error is None else self._bad + 1
        if self._bad > BAD_IN_A_ROW:
            raise UserError(
                f"the last {self._bad} answers of {self._server.url} held no text, the last one: "
                f"{answer.error}"
            )
        return answer


def completion_of(data: Any) -> Completion:
    """What an answer of `/completions` or `/chat/completions` says, or that it is malformed."""
    try:
        choice, usage = data["choices"][0], data.get("usage") or {}
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        if not isinstance(text, str):
            raise TypeError("it holds no text")
        tokens = int(usage.get("completion_tokens") or 0)
        prompt_tokens = int(usage.get("prompt_tokens") or 0)
        complete = choice.get("finish_reason") != "length"
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        shown = " ".join(str(data).split())[:100]
        why = f"{type(error).__name__}: {error}"
        return _failed(f"the endpoint's answer is malformed ({why}): {shown}")
    return Completion(text, tokens, complete, prompt_tokens=prompt_tokens)


def _failed(error: str) -> Completion:
    return Completion("", 0, False, error=error)


def _said(error: openai.APIError) -> str:
    """A predicate of one line: what the server said or did."""
    if isinstance(error, openai.APITimeoutError):
        return "took too long to answer"
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return f"cannot be reached ({' '.join(str(cause).split()) or type(cause).__name__})"
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error") if isinstance(body.get("error"), dict) else body
    text = " ".join(str(inner.get("message") or error.message).split())
    return f"said {error.status_code}: {text[:200]}"
