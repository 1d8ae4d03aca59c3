"""The machine of these tests, and one with eight GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.workflows.cc12m.findings import A100
from workflows.cc12m.checks.machine import (
    Machine,
    names_of_interest,
    this_machine,
)


@pytest.fixture(scope="module")
def here() -> Machine:
    return this_machine(names_of_interest())


@pytest.fixture
def node(here) -> Machine:
    """This machine with eight GPUs and the engine for them."""
    versions = here.versions | {"vllm": "0.32.0"}
    return replace(here, versions=versions, cards=(A100,) * 8, usable=8)
