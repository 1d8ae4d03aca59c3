"""What a model is asked for a caption, and what its answer says: the same for every kind of engine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from parsing.llm import constraint, prompt
from parsing.llm.answers import Form, read_answer
from parsing.normalise import LIBRARIES, Normaliser
from parsing.source.cleaning import clean
from parsing.tags import EMPTY, FAILED, TOO_LONG, Parsed
from parsing.versions import digest_of
from parsing.words import words


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote for one prompt.

    Attributes:
        text: the answer, stop string excluded.
        tokens: how many tokens it took.
        complete: False where the limit on tokens cut it off.
        error: why there is no answer, else None.
        prompt_tokens: of the prompt, where only the engine knows them.
    """

    text: str
    tokens: int
    complete: bool
    error: str | None = None
    prompt_tokens: int = 0


class Reader:
    """Turns what a model wrote into tags.

    Args:
        form: the marks that the model was asked to use.
    """

    def __init__(self, form: Form):
        self._form = form
        self._normaliser = Normaliser()

    def read(self, caption: str, prompt_tokens: int, completion: Completion) -> Parsed:
        """The tags of one caption, as it was asked."""
        cost = {"prompt_tokens": prompt_tokens, "output_tokens": completion.tokens}
        if completion.error is not None:
            return Parsed(status=FAILED, error=completion.error, **cost)
        answer = read_answer(
            completion.text,
            clean(caption),
            self._form,
            completion.complete,
            self._normaliser.singular,
        )
        cut = (
            None if completion.complete else f"the answer was cut off at {completion.tokens} tokens"
        )
        objects, attributes = self._normaliser.tags(caption, answer.objects, answer.attributes)
        return Parsed(
            objects, attributes, error=cut, raw=completion.text, dropped=answer.dropped, **cost
        )


def unasked(caption: str, tokens: int, limit: int) -> Parsed | None:
    """The result for a caption that no model is asked about, or None.

    Args:
        tokens: of the caption and what stands behind it.
        limit: the most that are asked.
    """
    if tokens > limit:
        return Parsed(status=TOO_LONG, error=f"{tokens} tokens; at most {limit} are parsed")
    if not words(caption):
        return Parsed(status=EMPTY, error="no word in it")
    return None


def max_answer_tokens(caption_tokens: int) -> int:
    """The longest answer, in tokens, to a caption of so many: its words, each with one mark."""
    return 2 * caption_tokens + 16


def sampling(caption_tokens: int) -> dict[str, Any]:
    """Greedy decoding, by the names that vLLM's `SamplingParams` and OpenAI's API share."""
    return {"temperature": 0.0, "max_tokens": max_answer_tokens(caption_tokens)}


def code_digest() -> str:
    """Changes with the code between a caption and its tags; part of a run's fingerprint."""
    return digest_of(sys.modules[__name__], constraint, prompt, libraries=LIBRARIES)
