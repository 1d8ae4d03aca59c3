"""A student from end to end: real engine, real training steps, a folder that a run takes."""

from __future__ import annotations

import json

import pytest

from parsing.distill import main, parse_flags
from parsing.llm.models import find_model
from parsing.llm.parser import LLMConfig, LLMParser
from parsing.llm.student import FOLDER


@pytest.mark.engine
@pytest.mark.cluster
def test_a_student_of_a_students_run_parses_captions(tmp_path, capsys):
    from parsing.run import main as parse

    teacher, student = str(tmp_path / "tags"), tmp_path / "student"
    sample = ["--captions", "parsing/sample_captions.tsv", "--limit", "40"]
    assert parse([*sample, "--output", teacher, "--address", "local"]) == 0
    command = ["--teacher", teacher, "--output", str(student), "--held-out", "0.2"]
    command += ["--batch", "8", "--epochs", "2", "--start-from", str(FOLDER)]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "held out of the teacher" in table
    assert {line.split()[0] for line in table.splitlines() if line.strip()} >= {"base", "student"}

    about = json.loads((student / "tagalign.json").read_text())
    assert about["sources"][0]["teacher"]["model"] == "tagalign-135m"
    assert about["started_from"]["name"] == FOLDER.name
    assert about["started_from"]["provenance"]["averaged_with"]
    assert str(FOLDER) not in json.dumps(about)
    card = (student / "README.md").read_text()
    assert "--teacher" in card
    assert "objects F1" in card
    assert not (tmp_path / "student.training").exists()
    config = LLMConfig(model=find_model(str(student)))
    assert config.load_prompt().conversation == "plain"
    parser = LLMParser(config)
    try:
        assert [parsed.status for parsed in parser.parse(["a red car", "two dogs"])] == ["ok", "ok"]
    finally:
        parser.close()

    assert main([*command, "--lr", "1e-4"]) == 2  # another student is not written over this one
    assert "holds a student of other settings or data" in capsys.readouterr().err


def test_a_folder_that_is_no_student_is_not_touched(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    assert main(["--gold", "x.jsonl", "--output", str(tmp_path / "mine")]) == 2
    assert "exists and is no student" in capsys.readouterr().err


def test_a_base_model_without_a_tokenizer_is_told(tmp_path, capsys):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "llama"}')
    arguments = ["--gold", "x.jsonl", "--base", str(base), "--output", str(tmp_path / "student")]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: cannot load the tokenizer of")
    assert told.count("\n") == 1


def test_the_flags_are_the_settings():
    settings = parse_flags(
        ["--teacher", "t", "--gold", "a:4", "--gold", "b", "--full", "--lr", "4e-4"]
    )
    assert (settings.teacher, settings.gold) == (("t",), ("a:4", "b"))
    assert settings.full
    assert settings.lr == 4e-4
