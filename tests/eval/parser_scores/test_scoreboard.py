"""Every parser is started once, and judged by every gold file on its own."""

import json
from dataclasses import dataclass

import pytest

from common.errors import UserError
from eval.parser_scores.answers import Answers
from eval.parser_scores.gold import GoldCaption, GoldFile
from eval.parser_scores.scoreboard import Judged, Scoreboard, judge
from eval.parser_scores.settings import Settings
from eval.parser_scores.tag_scores import f1_difference
from parsing.fake_parser import FakeConfig
from parsing.tags import Parsed

CAPTIONS = (GoldCaption("some cars", ("cars",), ()), GoldCaption("a tree", ("tree", "bird"), ()))
GOLD = GoldFile("gold.jsonl", "gold.jsonl", CAPTIONS)
ANSWERS = [
    Answers("one", [Parsed(["car"]), Parsed(["tree"])], None, None),
    Answers("two", [Parsed(["van"]), Parsed(status="failed")], None, None),
]


@dataclass(frozen=True)
class Counted(FakeConfig):
    """Notes in a list how often it is built."""

    built: list = None

    def build(self):
        self.built.append(self.name)
        return super().build()


@pytest.fixture
def golds(tmp_path):
    def write(name, captions):
        rows = [{"caption": c, "objects": [c.split()[-1]], "attributes": []} for c in captions]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
        return str(tmp_path / name)

    return write("long.jsonl", ["this tree", "some bird", "wide road"]), write("short.jsonl", ["a"])


def test_each_parser_is_built_once_and_asked_all_gold_files(golds, monkeypatch):
    built = []
    config = Counted(built=built)
    monkeypatch.setattr(Settings, "configs", lambda self: [config])
    long, short = judge(Settings(gold=golds, parsers=("nltk",), resamples=5))
    assert built == ["fake"]
    assert [len(board.judged[0].comparisons) for board in (long, short)] == [3, 1]
    assert [board.gold.name for board in (long, short)] == ["long.jsonl", "short.jsonl"]
    assert long.judged[0].scores.recall["objects"].value == 1
    assert short.judged[0].scores.recall["objects"].value == 0


def test_folders_are_looked_at_before_any_parser_is_started(golds, monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(Settings, "configs", lambda self: [Counted(built=built)])
    settings = Settings(gold=golds, parsers=("nltk",), tags=(str(tmp_path / "absent"),))
    with pytest.raises(UserError, match="holds no tags"):
        judge(settings)
    assert built == []


def test_gains_are_over_the_first_parser_on_the_same_draws():
    board = Scoreboard.of(GOLD, ANSWERS, resamples=30, seed=2)
    first, second = (one.comparisons for one in board.judged)
    assert board.gains["objects"] == [None, f1_difference(first, second, "objects", 30, 2)]
    assert board.gains["objects"][1].value == -0.8


def test_gold_tags_that_no_caption_says_are_counted_and_not_refused():
    board = Scoreboard.of(GOLD, ANSWERS, resamples=5)
    assert (board.tags, board.unreachable) == (3, 1)
    assert "2 captions, 3 gold tags, 1 of them with a word that their caption lacks" in board.about
    within = Scoreboard.of(GoldFile("a", "a", CAPTIONS[:1]), [Answers("x", [Parsed()], None, None)])
    assert within.about == "1 captions, 1 gold tags, all of them in their caption's words"


def test_a_caption_without_an_answer_counts_as_one_without_tags():
    judged = Judged.of(ANSWERS[1], CAPTIONS, resamples=5)
    assert judged.unanswered == 1
    assert judged.comparisons[1].missed["objects"] == ["bird", "tree"]
    assert judged.scores.recall["objects"].value == 0
