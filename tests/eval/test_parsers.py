"""The command that scores parsers: a table, a JSON file, a page, and one sentence for mistakes."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from eval.parser_scores.settings import Settings
from eval.parsers import main
from parsing.errors import UserError
from parsing.spacy_parser import MODELS
from parsing.storage import Folder
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


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "action", "data")]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_folders_are_scored_side_by_side(gold, two, tmp_path, capsys):
    assert run("--gold", gold, "--tags", two[0], "--tags", two[1], "--out", tmp_path / "out") == 0
    table = capsys.readouterr().out
    line = next(line for line in table.splitlines() if line.startswith("objects F1"))
    assert re.findall(r"(\d\.\d+) \[", line) == ["1.000", "0.500"]
    better, worse = json.loads((tmp_path / "out" / "scores.json").read_text())["parsers"]
    assert better["exact_match"]["value"] == 1
    assert worse["not_answered"] == 1
    assert worse["objects"]["precision"]["value"] == 0.5
    assert worse["attributes"]["precision"]["value"] is None
    assert worse["f1_less_first"]["objects"]["value"] == -0.5
    assert better["f1_less_first"] == {}


def test_the_page_is_whole_escaped_and_needs_nothing_from_elsewhere(gold, two, tmp_path):
    run("--gold", gold, "--tags", two[0], "--tags", two[1], "--out", tmp_path / "out")
    text = (tmp_path / "out" / "parsers.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "b", "i", "u", "link", "iframe", "img"} & set(page.tags)
    assert page.links == []
    assert not re.search(r"https?:|url\(|@import", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; dog &amp; a &#34;cat&#34;" in text
    assert 'name="viewport"' in text


def test_the_page_says_right_wrong_and_missed_in_words_and_signs(gold, two, tmp_path):
    run("--gold", gold, "--tags", two[1], "--out", tmp_path / "out")
    text = re.sub(r"<[^>]+>", "", (tmp_path / "out" / "parsers.html").read_text())
    assert "✓right: car" in text
    assert "✗wrong: &lt;i&gt;sky&lt;/i&gt;" in text
    assert "○missed: red → car" in text
    assert "failed: &lt;u&gt;no&lt;/u&gt;" in text


def test_as_many_captions_are_shown_as_asked_for(gold, two, tmp_path):
    run("--gold", gold, "--tags", two[0], "--out", tmp_path / "out", "--shown", 1)
    text = (tmp_path / "out" / "parsers.html").read_text()
    assert text.count("<article") == 1
    assert "The first 1 of 2" in text


def test_parsers_run_here_from_the_repository_s_root(root, shared, tmp_path):
    parsers = ["nltk", "tag2text"]
    parsers += ["spacy"] if any(map(importlib.util.find_spec, MODELS)) else []
    command = [sys.executable, "eval/parsers.py", "--gold", shared / "gold" / "factual_dev.csv"]
    command += ["--parsers", ",".join(parsers), "--limit", "50", "--out", tmp_path]
    command += ["--tag-list", shared / "taglists" / "ram_tag_list.txt"]
    environment = os.environ | {"NLTK_DATA": str(shared.parent / "nltk_data")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    scored = json.loads((tmp_path / "scores.json").read_text())
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
        (["--parsers", "tag2text"], "give --tag-list"),
        (
            ["--parsers", "tag2text", "--tag-list", "absent.txt"],
            "cannot read the tag list absent.txt",
        ),
        (["--tags", "absent"], "absent holds no tags"),
        (["--parsers", "nltk", "--limit", "0"], "--limit must be at least 1, not 0"),
        (["--parsers", "nltk", "--resamples", "0"], "--resamples must be at least 1"),
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


def test_model_and_prompt_reach_the_llm_parser(tmp_path):
    (tmp_path / "model").mkdir()
    settings = Settings(
        gold="g.csv", parsers=("llm",), model=str(tmp_path / "model"), prompt="absent"
    )
    with pytest.raises(UserError, match="absent"):
        settings.configs()
