"""Tests on a GPU, skipped without one.

`GPU_TESTS_ON=cpu` runs the bodies of those that any device can run on the CPU, to check the tests.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
CHOSEN = os.environ.get("GPU_TESTS_ON", "cuda")


def _fixtures_of(folder: str) -> dict[str, object]:
    """The fixtures of another folder's tests, which pytest doesn't share with this one."""
    path = HERE.parent / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"fixtures_of_{folder}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    names = ("tiny_folder", "save_clip", "tiny_config", "images", "pictures", "world", "free_port")
    return {name: getattr(module, name) for name in names}


globals().update(_fixtures_of("training"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHOSEN == "cuda" and not torch.cuda.is_available():
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, and there is none"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device(CHOSEN)


@pytest.fixture(autouse=True)
def exact_matrices():
    """Products of float32 in float32, as on a CPU; tests that want TF32 ask for it."""
    convolutions = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    yield
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.set_float32_matmul_precision("highest")
