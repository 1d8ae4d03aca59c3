"""Packages and GPUs that do not do are named, with what is needed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib.metadata import version

import pytest

from tests.workflows.cc12m.findings import A100, levels, only
from workflows.cc12m.checks.finding import FAILED, OK, WARNING
from workflows.cc12m.checks.machine import (
    Card,
    Machine,
    check_gpus,
    check_versions,
    find_cards,
)

GB = 10**9


def test_this_machine_is_as_its_own_tests_need_it(here):
    assert levels(check_versions(here, gpus=False)) == [OK]
    assert here.versions["torch"] == version("torch")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"torch": "2.1.0"}, "torch 2.1.0 (needs >=2.13)"),
        ({"ray": "2.59.0"}, "ray 2.59.0 (needs ==2.60.0)"),
        ({"transformers": "4.57.0"}, "transformers 4.57.0"),
        ({"vllm": "0.30.1"}, "vllm 0.30.1 (needs ==0.32.*)"),
        ({"vllm": None}, "vllm is missing: install them with `make install EXTRA=gpu`"),
        ({"polars": None}, "polars is missing"),
    ],
)
def test_wrong_versions_are_named_with_the_range_they_need(node, changes, sentence):
    versions = {k: v for k, v in (node.versions | changes).items() if v is not None}
    found = list(check_versions(replace(node, versions=versions), gpus=True))
    assert sentence in only(found, FAILED)


def test_an_old_python_is_a_failure(node):
    found = list(check_versions(replace(node, python="3.10.2"), gpus=True))
    assert "Python 3.10.2 (needs >=3.11)" in only(found, FAILED)


@pytest.mark.parametrize(
    ("changes", "level", "sentence"),
    [
        ({"cards": ()}, FAILED, "none found"),
        ({"usable": 0}, FAILED, "torch can use 0 of 8"),
        ({"usable": None}, FAILED, "torch cannot be imported"),
        ({"cards": (A100,), "usable": 1}, FAILED, "1 here, and one engine spans 2"),
        ({"cards": (A100,) * 3, "usable": 3}, WARNING, "1 of 3 stay idle"),
        ({"cards": (A100, replace(A100, name="T4")), "usable": 2}, WARNING, "of several kinds"),
        ({"cards": (A100, replace(A100, used=9 * GB)), "usable": 2}, WARNING, "GPU 1 already holds 9 GB"),
    ],
)  # fmt: skip
def test_gpus_that_do_not_do_are_named(node, changes, level, sentence):
    found = list(check_gpus(replace(node, **changes), tensor_parallel=2))
    assert sentence in only(found, level)


def test_eight_free_gpus_are_ok_and_none_are_asked_for_on_a_cpu_machine(node, here):
    assert "8 x NVIDIA A100-SXM4-80GB, 80.0 GiB each" in only(check_gpus(node, 2), OK)
    assert levels(check_gpus(here, 1, wanted=False)) == [OK]


def test_nvidia_smi_is_understood(tmp_path, monkeypatch):
    """As its manual lays it out; there is no driver here."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\nfor i in 1 2; do echo 'NVIDIA H100 80GB HBM3, 81559, 4, 550.54.15'; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    card = Card("NVIDIA H100 80GB HBM3", 81_559 << 20, 4 << 20, "550.54.15")
    assert find_cards() == (card, card)


def test_a_machine_survives_its_way_through_json(node):
    assert Machine.from_json(json.loads(json.dumps(node.to_json()))) == node
