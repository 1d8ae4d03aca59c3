"""vLLM's own server: its flags are the engine's settings, and the endpoint's parser can ask it."""

from __future__ import annotations

import psutil
import pytest

from parsing.endpoint.parser import EndpointConfig
from parsing.endpoint.server import Server
from parsing.llm import student
from parsing.llm.models import PROMPT, find_model
from parsing.llm.parser import LLMConfig
from parsing.tags import EMPTY, OK, TOO_LONG
from workflows.benchmarks.served import as_flags, serving


def test_arguments_of_an_engine_are_flags_of_the_server():
    arguments = {"max_num_seqs": 8, "revision": None, "enforce_eager": True, "a_b": False}
    assert as_flags(arguments | {"structured_outputs_config": {"backend": "xgrammar"}}) == [
        *("--max-num-seqs", "8", "--enforce-eager", "--no-a-b"),
        *("--structured-outputs-config", '{"backend": "xgrammar"}'),
    ]


@pytest.mark.engine
def test_vllms_own_server_answers_as_the_students_engine_does():
    """The captions and answers of `tests/parsing/llm/test_parser.py`, over HTTP."""
    config = LLMConfig(max_caption_tokens=32, batch=8)
    captions = ["a black dog on a red sofa", "two white boats", "\U0001f600", "a cat " * 40]
    before = set(psutil.Process().children(recursive=True))
    with serving(config, student.NAME) as url:
        prompt = str(find_model(student.NAME).file(PROMPT))
        for constraint in ("none", "words"):
            asked = EndpointConfig(
                Server(url, student.NAME, batch=4), prompt, constraint, max_caption_tokens=32
            ).build()
            try:
                results = asked.parse(captions)
            finally:
                asked.close()
            assert [r.status for r in results] == [OK, OK, EMPTY, TOO_LONG]
            assert results[0].objects == ["dog", "sofa"]
            assert ("black", "dog") in results[0].attributes
            assert ("red", "sofa") in results[0].attributes
            assert results[0].prompt_tokens > 5
            assert results[0].output_tokens > 2
            assert results[0].error is None
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
