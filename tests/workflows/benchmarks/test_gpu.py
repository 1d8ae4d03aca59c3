"""The benchmark of a GPU: one sentence without one, and a table of a tiny model on the CPU."""

from __future__ import annotations

import pytest
import torch

from workflows.benchmarks.gpu import main


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err == "error: there is no CUDA GPU here, and this measures one\n"


def test_the_table_has_a_row_of_training_and_one_of_evaluation(capsys):
    assert main(["--cpu", "--model", "tiny", "--batch", "8", "--repeats", "1"]) == 0
    head, training, evaluation = capsys.readouterr().out.strip().splitlines()[-3:]
    assert head.startswith("tiny on CPU, torch ")
    assert training.startswith("training, batch 8, defaults")
    assert evaluation.startswith("evaluation, 640 x 480 pixels, 171 classes")
    for row in (training, evaluation):
        rate, memory, share = row.split()[-3:]
        assert float(rate.replace(",", "")) > 0
        assert memory == "-"
        assert 0 < float(share.rstrip("%")) <= 100
