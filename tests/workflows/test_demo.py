"""The demo on a few scenes: the real world, CLIP, parsers, trainer and evaluator, and its page."""

from __future__ import annotations

import html.parser
import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from workflows.chain import Chain, Recipe
from workflows.demo import Settings, main
from workflows.intervals import Interval
from workflows.report import Row, verdict
from workflows.sizes import Sizes

pytestmark = pytest.mark.cluster
SMALL = ["--train", "120", "--held-out", "12", "--tuning", "6", "--epochs", "1", "--seeds", "0,1"]


class Page(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.text, self.sources = [], []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.sources += [value for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "workflows/demo.py", "--out", out, "--parsers", "spacy,tag2text"]
    done = subprocess.run([*command, *SMALL], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_report_is_one_file_with_all_it_promises(finished: Path):
    page = Page((finished / "report.html").read_text())
    text = " ".join(page.text)
    assert all(source.startswith("data:") for source in page.sources)  # nothing is fetched
    for title in (
        "Untrained CLIP Surgery",
        "TagAlign (objects)",
        "TagAlign (objects + attributes)",
    ):
        assert title in text
    assert "95% interval" in text
    assert "Tags that the pictures confirm" in text
    assert "Pictures at random" in text
    assert "python training/check_tags.py" in text
    assert "python labels/build_vocab.py" in text
    assert len(page.sources) > 40  # scenes, maps and segmentations


def test_its_figures_are_the_evaluators(finished: Path):
    result = json.loads((finished / "scores/clip/segmentation/result.json").read_text())
    assert f"{100 * result['miou']:.1f}" in (finished / "report.html").read_text()
    assert result["images"] == 12


def test_what_is_there_is_not_made_again(finished: Path, capfd):
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert main(["--out", str(finished), "--parsers", "spacy,tag2text", *SMALL]) == 0
    assert "$ python" not in capfd.readouterr().out
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time} - {
        "chain.json"
    }
    assert changed <= {"report.html", "result.png"}


def test_a_folder_of_other_sizes_is_refused_and_left_alone(finished: Path, capsys):
    before = (finished / "report.html").read_bytes()
    assert main(["--out", str(finished), "--parsers", "spacy", "--train", "7"]) == 2
    assert "begun with other sizes" in capsys.readouterr().err
    assert (finished / "report.html").read_bytes() == before


def test_gold_tags_stand_for_the_same_captions_as_a_parsers(finished: Path):
    chain = Chain(finished, Sizes(120, 12, 6), say=lambda command: None)
    labels = [chain.labels(Recipe(parser)) for parser in ("gold", "spacy")]
    from labels.reader import Labels

    gold, spacy = map(Labels, labels)
    assert gold.keys(range(len(gold))) == spacy.keys(range(len(spacy)))
    first = json.loads((finished / "world/gold.jsonl").read_text().splitlines()[0])
    tags = gold.vocabulary.tags
    assert {tags[i] for i in gold[first["key"]]} == {
        *first["objects"], *(attribute for attribute, _ in first["attributes"])
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--train", "0"], "--train is at least 1"),
        (["--world", "-1"], "--world is at least 0"),
        (["--seeds", "1,1"], "different numbers"),
        (["--seeds", "a"], "whole numbers divided by commas"),
        (["--parsers", "oracle"], "not 'oracle'"),
    ],
)
def test_bad_flags_are_one_sentence(flags, sentence, capsys):
    assert main(flags) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Interval(3, 1, 5), "segments better than plain CLIP (+3.0"),
        (Interval(-3, -5, -1), "segments worse than plain CLIP (-3.0"),
        (Interval(1, -1, 3), "shows no clear difference from plain CLIP here (+1.0"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(gain, said):
    none = Interval(1, 1, 1)
    untrained = Row("plain CLIP", none, None, None, none, none, {})
    trained = Row("TagAlign", none, gain, none, none, none, {})
    sentences = verdict([untrained, untrained, trained, trained, trained])
    assert len(sentences) == 2  # with one seed nothing is said of tags and attributes
    assert said in sentences[0]
    assert "segments better than untrained CLIP Surgery (+1.0" in sentences[0]


def test_the_verdict_tells_what_tags_add_from_what_training_adds():
    one = Interval(1, 0.5, 1.5)

    def row(title: str, seeds: list) -> Row:
        return Row(title, one, one, one, one, one, {}, tuple(seeds))

    objects = row("objects", [(20.0, 9.0), (21.0, 9.5), (22.0, 9.2)])
    both = row("both", [(20.5, 9.1), (21.4, 9.3), (22.6, 9.3)])
    control = row("alone", [(19.0, 5.0), (20.1, 5.0), (21.0, 5.0)])
    *_, tags, attributes = verdict([objects, objects, objects, both, control])
    assert "tags help (+1.5" in tags
    assert "tags of attributes make no clear difference here (+0.0" in attributes


def test_settings_check_themselves():
    with pytest.raises(UserError, match="none twice"):
        Settings(parsers=("spacy", "spacy"))
