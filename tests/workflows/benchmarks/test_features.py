from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workflows.benchmarks.features import Settings, measure

CLIP = Path(__file__).resolve().parents[3] / "workflows/shapes/clip"


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_steps_on_pictures_and_on_features_are_measured(tmp_path):
    table = measure(Settings(str(CLIP), images=4, batch_size=2, rounds=1), tmp_path)
    for name in ("pictures", "features"):
        [line] = [one for one in table.splitlines() if one.startswith(f"{name}  ")]
        assert float(line.split()[1].replace(",", "")) > 0
    assert "64 x 128 x 2 = 16,384 bytes an image" in table
