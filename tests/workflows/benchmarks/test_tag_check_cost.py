from __future__ import annotations

from pathlib import Path

from workflows.benchmarks.tag_check_cost import Settings, measure

CLIP = Path(__file__).resolve().parents[3] / "workflows/shapes/clip"


def test_every_part_is_measured_with_and_without_phrases(tmp_path):
    table = measure(Settings(str(CLIP), tags=30, pictures=2, rounds=1), tmp_path)
    for name in ("encoder", "measuring", "measuring, --attributes phrases", "statistics"):
        [line] = [one for one in table.splitlines() if one.startswith(f"{name}  ")]
        assert float(line.split()[-2].replace(",", "")) >= 0
    assert "100.0%" in table
