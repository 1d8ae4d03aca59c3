"""The ablations: what their tables say of figures, and a small one with real training and scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows.ablation_tables import Line, Table, document
from workflows.ablations import Settings, main
from workflows.chain import Chain
from workflows.sizes import Sizes


def text_of(lines: list[Line], claims: list[str], tmp_path: Path) -> str:
    chain = Chain(tmp_path / "chain", Sizes(10, 5, 5))
    table = Table("4", "Parser", "mIoU", lines, claims, "A note.")
    return document([table], chain, "python x.py", [0, 1, 2])


def test_a_table_shows_means_intervals_and_differences_paired_by_seed(tmp_path):
    lines = [
        Line("llm", [10.0, 20.0, 30.0]),
        Line("nltk", [9.0, 19.0, 29.0]),
        Line("none", [5.0] * 3, fixed=True),
    ]
    text = text_of(lines, ["A claim."], tmp_path)
    assert "| llm | 20.0 [-4.8, 44.8] |  |" in text
    assert "| nltk | 19.0 [-5.8, 43.8] | -1.0 [-1.0, -1.0] |" in text  # the seeds' spread is shared
    assert "| none | 5.0 |" in text
    assert (
        "| *NLTK (20,000) (paper, Table 4)* | voc 51.0, imagenet_s50 49.1, imagenet_s300 31.2 | |"
        in text
    )
    assert "A note." in text
    assert "- A claim." in text
    assert "`python x.py`" in text


@pytest.mark.parametrize(
    ("number", "heading"),
    [("6", "## Table 6: Title"), ("referring", "## Referring: Title"), ("paths", "## Title")],
)
def test_a_table_is_called_as_the_papers_or_by_what_it_is(number, heading, tmp_path):
    chain = Chain(tmp_path / "chain", Sizes(10, 5, 5))
    table = Table(number, "Title", "mIoU", [Line("a", [1.0, 2.0])])
    text = document([table], chain, "python x.py", [0, 1])
    assert heading in text.splitlines()
    assert ("(paper, " in text) == (number != "paths")


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ([5.0, 6.0, 7.0], [1.0, 2.1, 2.9], "holds here"),
        ([1.0, 2.1, 2.9], [5.0, 6.0, 7.0], "fails here"),
        ([1.0, 9.0, 4.0], [6.0, 2.0, 5.0], "no clear difference here"),
    ],
)
def test_a_claim_is_judged_by_the_interval_of_its_difference(better, worse, verdict):
    from workflows.ablation_tables import _claim

    assert f"**{verdict}**" in _claim("One beats the other", Line("a", better), Line("b", worse))


@pytest.mark.cluster
def test_a_small_ablation_is_trained_scored_written_and_taken_up_again(
    tmp_path, monkeypatch, capfd
):
    tags = Chain.tags
    # The LLM has tests of its own; here another parser's tags stand in for its.
    monkeypatch.setattr(Chain, "tags", lambda self, parser: tags(self, "spacy"))
    flags = [
        "--out",
        str(tmp_path / "out"),
        "--write",
        str(tmp_path / "tables.md"),
        "--tables",
        "5",
    ]
    flags += [
        "--seeds",
        "0,1",
        "--train",
        "60",
        "--held-out",
        "6",
        "--tuning",
        "4",
        "--epochs",
        "1",
    ]
    assert main(flags) == 0
    text = (tmp_path / "tables.md").read_text()
    assert "Table 5" in text
    assert "class token" in text
    assert "--tables 5 --seeds 0,1 --train 60 --held-out 6 --tuning 4 --epochs 1" in text
    assert len(list((tmp_path / "out/runs").iterdir())) == 4
    capfd.readouterr()
    assert main(flags) == 0
    assert "$ python" not in capfd.readouterr().out
    assert (tmp_path / "tables.md").read_text() == text


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--tables", "7"], "--tables takes 3, 4, 5, 6, 9, referring, paths"),
        (["--seeds", "0,0"], "different numbers"),
        (["--seeds", "x"], "whole numbers divided by commas"),
        (["--held-out", "0"], "--held-out is at least 1"),
    ],
)
def test_bad_flags_are_one_sentence(flags, sentence, capsys):
    assert main(flags) == 2
    assert sentence in capsys.readouterr().err


def test_the_command_that_is_shown_is_the_one_that_was_given():
    assert Settings().command == "python workflows/ablations.py --seeds 0,1,2,3,4"
    assert "--tables 4,6" in Settings(tables=("4", "6")).command
