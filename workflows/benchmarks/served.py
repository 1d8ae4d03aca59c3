"""vLLM's own OpenAI-compatible server on a model of the project, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from common.errors import UserError
from parsing.llm.card import Card
from parsing.llm.engine import prepare_environment
from parsing.llm.parser import LLMConfig
from workflows.local_cluster import free_ports

START_SECONDS = 900
_STOP_SECONDS = 30


@contextlib.contextmanager
def serving(config: LLMConfig, name: str) -> Iterator[str]:
    """The server's URL. Its engine has the settings that the pipeline's own would have.

    Args:
        config: the parser whose engine it is.
        name: by which the server knows the model.

    Raises:
        UserError: the server ends, or does not answer within `START_SECONDS`.
    """
    settings = config.settings(len(config.tokens().prefix))
    prepare_environment(settings)
    arguments = settings.arguments(
        config.model.folder(), config.model.revision, Card.here(settings.gpus)
    )
    (port,) = free_ports(1)
    # `vllm serve` itself looks for a distribution called vllm, which the build for CPUs is not.
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", name]
    command += ["--uvicorn-log-level", "warning", "--disable-uvicorn-access-log"]
    command += as_flags(arguments)
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            _stop(process)


def as_flags(arguments: dict[str, Any]) -> list[str]:
    """Keyword arguments of vLLM's engine as flags of `vllm serve`; None is left out."""
    flags = []
    for key, value in arguments.items():
        flag = key.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (dict, list)):
            flags += [f"--{flag}", json.dumps(value)]
        else:
            flags += [f"--{flag}", str(value)]
    return flags


def _wait(process: subprocess.Popen, url: str, log) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            log.seek(0)
            raise UserError(f"vLLM's server ended at its start:\n{log.read()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10):
            return
        time.sleep(1)
    raise UserError(f"vLLM's server did not answer within {START_SECONDS} s")


def _stop(process: subprocess.Popen) -> None:
    """Ends the server and the engine that it has started."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):  # a session of its own: the engine is in it
        os.killpg(process.pid, 9)
    process.wait()
