"""The command that scores parsers: a table, a JSON file, a page, and one sentence for mistakes."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from common.storage import Folder
from eval.parsers import main
from parsing.baselines.spacy_parser import MODELS
from parsing.tags import Parsed, tags_table

NASTY = 'a <script>alert(1)</script> dog & a "cat"'


@pytest.fixture
def gold(tmp_path):
    path = tmp_path / "gold.jsonl"
    rows = [
        {"caption": "a red car", "objects": ["car"], "attributes": [["red", "car"]]},
        {"caption": NASTY, "objects": ["<b>dog</b>"], "attributes": []},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def tags(tmp_path):
    def folder(name, *parsed):
        path = tmp_path / name
        path.mkdir()
        table = tags_table(range(2), ["a red car", NASTY], parsed)
        Folder(str(path)).write_table("part-000000.parquet", table)
        return str(path)

    return folder


@pytest.fixture
def two(tags):
    better = tags("better", Parsed(["car"], [("red", "car")]), Parsed(["<b>dog</b>"]))
    worse = tags("worse", Parsed(["car", "<i>sky</i>"]), Parsed(status="failed", error="<u>no</u>"))
    return better, worse


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_folders_are_scored_side_by_side(gold, two, tmp_path, capsys):
    assert run("--gold", gold, "--tags", two[0], "--tags", two[1], "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "gold.jsonl: 2 captions" in printed
    [scored] = json.loads((tmp_path / "out" / "scores.json").read_text())["golds"]
    assert [one["name"] for one in scored["parsers"]] == list(two)
    assert [one["objects"]["f1"]["value"] for one in scored["parsers"]] == [1, 0.5]
    page = (tmp_path / "out" / "parsers.html").read_text()
    assert page.count("<article") == 2
    assert str(tmp_path / "out" / "parsers.html") in printed


def test_gold_files_of_one_name_are_scored_apart(gold, two, tmp_path, capsys):
    other = tmp_path / "other" / "gold.jsonl"
    other.parent.mkdir()
    row = {"caption": "a red car", "objects": ["bus"], "attributes": [], "maybe": ["car"]}
    other.write_text(json.dumps(row))
    code = run("--gold", gold, "--gold", other, "--tags", two[0], "--out", tmp_path / "out")
    assert code == 0
    first, second = json.loads((tmp_path / "out" / "scores.json").read_text())["golds"]
    assert (first["name"], second["name"]) == (f"{tmp_path.name}/gold.jsonl", "other/gold.jsonl")
    assert first["parsers"][0]["objects"]["f1"]["value"] == 1
    assert second["parsers"][0]["objects"]["precision"]["value"] is None
    assert second["parsers"][0]["objects"]["recall"]["value"] == 0
    printed = capsys.readouterr().out
    for name in (first["name"], second["name"]):
        assert f"\n{name}: " in f"\n{printed}"


def test_scores_are_printed_even_if_they_cannot_be_written(gold, two, tmp_path, capsys):
    (tmp_path / "out").write_text("a file, not a folder")
    assert run("--gold", gold, "--tags", two[0], "--out", tmp_path / "out") == 2
    told = capsys.readouterr()
    assert "better" in told.out
    assert told.err.startswith("error: ")


def test_parsers_run_from_the_repository_s_root(root, shared, tmp_path):
    parsers = ["nltk", "tag2text"]
    parsers += ["spacy"] if any(map(importlib.util.find_spec, MODELS)) else []
    command = [sys.executable, "eval/parsers.py", "--gold", shared / "gold" / "factual_dev.csv"]
    command += ["--parsers", ",".join(parsers), "--limit", "50", "--out", tmp_path]
    command += ["--tag-list", shared / "taglists" / "ram_tag_list.txt"]
    environment = os.environ | {"NLTK_DATA": str(shared.parent / "nltk_data")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    [scored] = json.loads((tmp_path / "scores.json").read_text())["golds"]
    assert [one["name"] for one in scored["parsers"]] == parsers
    assert scored["captions"] == 50
    for one in scored["parsers"]:
        assert 0.5 < one["objects"]["f1"]["low"] <= one["objects"]["f1"]["value"] <= 1
        assert one["captions_per_second"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parsers", "nltk,clip"], "there is no parser 'clip': choose from nltk, spacy"),
        (["--parsers", "nltk,nltk"], "the parser nltk is named twice"),
        ([], "nothing to score"),
        (["--parsers", "tag2text"], "--parser tag2text needs --tag-list FILE"),
        (
            ["--parsers", "tag2text", "--tag-list", "absent.txt"],
            "cannot read the tag list absent.txt",
        ),
        (["--tags", "absent"], "absent holds no tags"),
        (["--parsers", "nltk", "--limit", "0"], "--limit must be at least 1, not 0"),
        (["--parsers", "nltk", "--resamples", "0"], "--resamples must be at least 1"),
        (["--parsers", "nltk", "--gold", "gold.jsonl"], "gold.jsonl is named twice"),
        (["--parsers", "nltk", "--gold", "absent.csv"], "cannot read the gold tags absent.csv"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing_behind(
    gold, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run("--gold", gold, "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_missing_nltk_data_is_one_sentence(gold, tmp_path, capsys, monkeypatch):
    import nltk

    monkeypatch.delenv("NLTK_DATA", raising=False)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(nltk, "download", lambda *_, **__: False)
    assert run("--gold", gold, "--parsers", "nltk", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "set NLTK_DATA" in error
    assert error.count("\n") == 1


def test_a_gold_file_with_a_missing_column_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "gold.csv"
    path.write_text("caption\na dog\n")
    assert run("--gold", path, "--parsers", "nltk", "--out", tmp_path / "out") == 2
    assert "has no column `scene_graph`" in capsys.readouterr().err
