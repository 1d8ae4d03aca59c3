"""The benchmark of the first pass measures what it says, on captions as spoilt as it says."""

from __future__ import annotations

import pytest

from workflows.benchmarks.captions import SPOILT, measure, write_spoilt


@pytest.fixture
def tsv(tmp_path):
    write_spoilt(tmp_path / "a.tsv", 2_000, distinct=1_000)
    return tmp_path / "a.tsv"


def test_generated_captions_are_spoilt_in_the_stated_shares(tsv):
    lines = tsv.read_bytes().splitlines()
    assert len(lines) == 2_000
    assert all(line.count(b"\t") == 1 for line in lines)
    for mark, every in SPOILT:
        assert sum(mark.strip() in line.partition(b"\t")[2] for line in lines) == 2_000 // every


def test_a_measurement_is_of_the_whole_pass(tsv):
    found = measure(str(tsv))
    assert found["images"] == 2_000
    assert 1_000 < found["captions"] < 2_000
    assert 0 < found["cleaning"] < found["pass"]
    assert found["peak"] > 1e7
