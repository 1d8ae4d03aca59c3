"""A client of an OpenAI-compatible server: many requests at once, and patience with the server.

The `openai` package sends a request again, after growing pauses, where the server says 429 or 5xx,
breaks off or takes too long. This module decides what comes after that. If a request goes on failing
while others are answered, the caption is at fault, and its row fails. If the server answers nothing at
all, the client waits, and after `Server.patience` seconds ends the run with a sentence. So no caption
is given up for a fault of the server.

A small model answers a caption in less time than HTTP takes to carry it. So several prompts share a
request to `/completions`, which takes a list of them. Where such a request fails, its prompts are sent
again one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
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
BAD_IN_A_ROW = 100  # answers without a text, beyond which the server is at fault and no caption
_KEY_HINT = f"the environment variable {KEY} holds the key"
_HINTS = {  # what to look at after an error that no second try mends
    openai.AuthenticationError: _KEY_HINT,
    openai.PermissionDeniedError: _KEY_HINT,
    openai.NotFoundError: "look at the path of --endpoint, which often ends with /v1, and at "
    "--endpoint-model",
}
GROUP = 8  # prompts of one request, where that leaves enough requests at once


class Client:
    """See the module. Several threads may call `answer` at once.

    Args:
        server: where requests go.
        path: `/completions` or `/chat/completions`.
    """

    def __init__(self, server: Server, path: str):
        self._server, self._path = server, path
        self._group = GROUP if path == "/completions" and server.batch >= 4 * GROUP else 1
        self._loop = EventLoop()
        self._answered = time.monotonic()  # when the server last answered any request
        self._bad = 0  # answers without a text since the last one with a text
        self._loop.run(self._open())

    def answer(
        self,
        bodies: Sequence[dict[str, Any]],
        each: Callable[[Completion], None] = lambda answer: None,
    ) -> list[Completion]:
        """Answers to requests, in their order.

        Args:
            bodies: JSON of requests for one answer each; the model's name is added.
            each: called with every answer as it comes.

        Raises:
            UserError: the server is gone, does not know the model, or refuses the key.
        """
        return self._loop.run(self._answer_all(bodies, each))

    def close(self) -> None:
        self._loop.run(self._client.close())
        self._loop.close()

    async def _open(self) -> None:
        self._slots = asyncio.Semaphore(self._server.batch)
        self._entrance = asyncio.Lock()
        self._client = openai.AsyncOpenAI(
            base_url=self._server.url,
            # A secret is no part of a configuration; see `parsing.job.secrets`.
            api_key=os.environ.get(KEY) or "none",
            timeout=self._server.timeout,
            max_retries=TRIES - 1,
        )

    async def _answer_all(self, bodies, each) -> list[Completion]:
        async def some(group: list[dict[str, Any]]) -> list[Completion]:
            async with contextlib.AsyncExitStack() as slots:
                async with self._entrance:  # otherwise two groups may wait for each other
                    for _ in group:
                        await slots.enter_async_context(self._slots)
                found = await self._ask_group(group)
            for answer in found:
                each(answer)
            return found

        size = 1 if any("structured_outputs" in body for body in bodies) else self._group
        groups = [list(bodies[at : at + size]) for at in range(0, len(bodies), size)]
        tasks = [asyncio.create_task(some(group)) for group in groups]
        try:
            return [answer for found in await asyncio.gather(*tasks) for answer in found]
        except BaseException:
            for task in tasks:
                task.cancel()
            raise

    async def _ask_group(self, group: list[dict[str, Any]]) -> list[Completion]:
        if len(group) == 1:
            return await self._ask(group[0], 1)
        together = group[0] | {
            "prompt": [body["prompt"] for body in group],
            "max_tokens": max(body["max_tokens"] for body in group),
        }
        found = await self._ask(together, len(group))
        if any(answer.error is not None for answer in found):
            found = [answer for body in group for answer in await self._ask(body, 1)]
            if all(answer.error is None for answer in found):
                self._group = 1  # some servers take no lists
        return found

    async def _ask(self, body: dict[str, Any], count: int) -> list[Completion]:
        """The answers to one request with `count` prompts; all have an error where it fails."""
        began, failures = time.monotonic(), 0
        while True:
            round_began = time.monotonic()
            try:
                data = await self._client.post(
                    self._path, body={"model": self._server.model, **body}, cast_to=object
                )
            except tuple(_HINTS) as error:
                raise UserError(
                    f"the endpoint {self._server.url} {_said(error)}: {_HINTS[type(error)]}"
                ) from error
            except (
                openai.RateLimitError,
                openai.InternalServerError,
                openai.APIConnectionError,
            ) as error:
                # A limit on the rate says nothing about the caption, however often it is met.
                limited = isinstance(error, openai.RateLimitError)
                # Nor does a round in which nobody was answered.
                failures += self._answered > round_began and not limited
                if failures >= ROUNDS:
                    return _failed(f"the endpoint {_said(error)}, {failures * TRIES} times", count)
                silent = time.monotonic() - max(self._answered, began)
                if silent > self._server.patience:
                    raise UserError(
                        f"the endpoint {self._server.url} has answered nothing for {silent:.0f} s: it "
                        f"{_said(error)}"
                    ) from error
                pause = min(PAUSE_SECONDS, self._server.patience / 4)
                await asyncio.sleep(pause * random.uniform(1, 2))  # not all at once
            except openai.APIStatusError as error:  # this request's own fault
                return self._noted(_failed(f"the endpoint {_said(error)}", count))
            except ValueError as error:  # no JSON
                return self._noted(_failed(f"the endpoint's answer is not JSON: {error}", count))
            else:
                if isinstance(data, dict):
                    return self._noted(completions_of(data, count))
                return self._noted(_failed(f"the endpoint's answer is {_shown(data)}", count))

    def _noted(self, found: list[Completion]) -> list[Completion]:
        """Raises `UserError` where the server answers, but has sent no text for too long."""
        self._answered = time.monotonic()
        good = any(answer.error is None for answer in found)
        self._bad = 0 if good else self._bad + 1
        if self._bad > BAD_IN_A_ROW:
            raise UserError(
                f"the last {self._bad} answers of {self._server.url} held no text, the last one: "
                f"{found[-1].error}"
            )
        return found


def completions_of(data: Any, count: int = 1) -> list[Completion]:
    """What an answer of `/completions` or `/chat/completions` says, or that it is malformed.

    Args:
        data: JSON.
        count: prompts that the request had. The server counts the tokens of all together: each gets
            its share, whole numbers that add up.
    """
    try:
        choices, usage = data["choices"], data.get("usage") or {}
        if len(choices) != count:
            raise ValueError(f"{len(choices)} answers instead of {count}")
        choices = sorted(choices, key=lambda choice: choice.get("index") or 0)
        tokens = _shares(usage.get("completion_tokens"), count)
        prompt_tokens = _shares(usage.get("prompt_tokens"), count)
        return [
            Completion(
                _text(choice), own, choice.get("finish_reason") != "length", prompt_tokens=asked
            )
            for choice, own, asked in zip(choices, tokens, prompt_tokens, strict=True)
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        shown = " ".join(str(data).split())[:100]
        why = f"{type(error).__name__}: {error}"
        return _failed(f"the endpoint's answer is malformed ({why}): {shown}", count)


def _text(choice: dict[str, Any]) -> str:
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    if not isinstance(text, str):
        raise TypeError("it holds no text")
    return text


def _shares(total: Any, count: int) -> list[int]:
    total = int(total or 0)
    return [(total * (n + 1)) // count - (total * n) // count for n in range(count)]


def _failed(error: str, count: int) -> list[Completion]:
    return [Completion("", 0, False, error=error)] * count


def _said(error: openai.APIError) -> str:
    """A predicate of one line: what the server said or did."""
    if isinstance(error, openai.APITimeoutError):
        return "took too long to answer"
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return f"cannot be reached ({' '.join(str(cause).split()) or type(cause).__name__})"
    body = error.body
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, dict):
        inner = inner.get("message") or inner.get("detail")
    told = isinstance(inner, str) and inner.strip() and not _is_page(inner)
    text = " ".join(inner.split())[:200] if told else f"with {_shown(body)}"
    if len(key := os.environ.get(KEY, "")) >= 8:  # some repeat it; a shorter one may be a word
        text = text.replace(key, "…")
    return f"said {error.status_code}{':' if told else ''} {text}"


def _shown(data: Any) -> str:
    """What came instead of a JSON object: `no JSON object but a web page`."""
    text = " ".join(str(data or "").split())
    if not text:
        what = "nothing"
    elif _is_page(text):
        what = "a web page"
    else:
        what = f"'{text[:80]}'"
    return f"no JSON object but {what}"


def _is_page(text: str) -> bool:
    return re.match(r"\s*<(!doctype|html|head|body)\b", text, re.IGNORECASE) is not None
