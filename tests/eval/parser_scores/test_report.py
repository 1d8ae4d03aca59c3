"""The table has a row per gold file and parser, and the JSON all figures."""

import json
from dataclasses import replace

import pytest

from eval.parser_scores.answers import Answers
from eval.parser_scores.gold import GoldCaption, GoldFile
from eval.parser_scores.report import as_json, as_table
from eval.parser_scores.scoreboard import Scoreboard
from parsing.tags import Parsed

RESAMPLES = 20
GOLD = GoldFile(
    "gold.jsonl", "gold.jsonl", (GoldCaption("a red car", ("car",), (("red", "car"),)),)
)


def rows(table, name):
    return [line.split() for line in table.splitlines() if line.startswith(name + " ")]


def test_every_parser_has_a_row_for_every_gold_file(boards):
    table = as_table(boards, RESAMPLES)
    first, second = rows(table, "better")
    assert first[:3] == ["better", "2", "1.000"]
    assert second[:3] == ["better", "1", "1.000"]
    heads = [line for line in table.splitlines() if "captions, " in line]
    assert heads[0].startswith("<web>/gold.jsonl: 2 captions, 4 gold tags, 2 of them with a word")
    assert heads[1].startswith("old/gold.jsonl: 1 captions, 1 gold tags, all of them in")


def test_a_row_holds_the_figures_in_the_order_of_its_head(boards):
    table = as_table(boards[:1], RESAMPLES)
    head = next(line for line in table.splitlines() if line.startswith("parser "))
    row = next(line for line in table.splitlines() if line.startswith("worse "))
    columns = ["captions  ", "objects F1", "attributes F1", "objects P / R", "attributes P / R"]
    columns += ["exact", "ungrounded", "captions/s"]
    cells = [row[head.index(column) :].split("  ")[0].strip() for column in columns]
    assert cells[0] == "2"
    assert cells[1].startswith("0.400 [")
    assert cells[2:5] == ["0.000 [0.000, 0.000]", "0.500 / 0.333", "- / 0.000"]
    assert cells[5:] == ["0.000", "0.667", "-"]
    assert rows(table, "better")[0][-1] == "1,234"


def test_the_table_says_how_many_samples_its_intervals_come_from(boards):
    assert "from 1,234 bootstrap samples" in as_table(boards, 1234)


def test_differences_to_the_first_parser_have_a_table_of_their_own(boards):
    table = as_table(boards, RESAMPLES)
    assert table.count("F1 less better's") == 2
    assert rows(table, "worse")[1][:2] == ["worse", "-0.600"]
    alone = [replace(board, judged=board.judged[:1]) for board in boards]
    assert "less" not in as_table(alone, RESAMPLES)


def test_captions_without_an_answer_are_told_where_there_are_any(boards):
    notes = [line for line in as_table(boards, RESAMPLES).splitlines() if "not answered" in line]
    assert notes == ["not answered, and counted as captions without tags: worse 1"]


def test_the_cold_start_of_parsers_that_were_started_here_is_told_once(boards):
    lines = [line for line in as_table(boards, RESAMPLES).splitlines() if "cold start" in line]
    assert lines == ["cold start: better 0.2 s"]


@pytest.mark.parametrize(
    "names",
    [
        ("nltk", "spacy", "tag2text", "llm"),
        ("nltk", "/data/runs/a-folder-with-a-rather-long-name/tags", "s3://bucket/x/" + "n" * 90),
        ("/data/one/tags", "/data/two/tags"),
    ],
)
def test_tables_fit_160_columns_and_tell_parsers_apart(names):
    answers = [Answers(name, [Parsed(["car"])], 123456.0, 1.0) for name in names]
    table = as_table([Scoreboard.of(GOLD, answers, resamples=5)], 5)
    assert max(map(len, table.splitlines())) <= 160
    lines = table.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("parser "))
    shown = [line.split()[0] for line in lines[start + 1 : start + 1 + len(names)]]
    assert len(set(shown)) == len(names)


def test_names_that_are_alike_where_they_would_be_cut_are_whole():
    names = ["a" + "x" * 40, "b" + "x" * 40]
    answers = [Answers(name, [Parsed()], None, None) for name in names]
    table = as_table([Scoreboard.of(GOLD, answers, resamples=5)], 5)
    assert rows(table, names[0])
    assert rows(table, names[1])


def test_the_json_has_all_figures_of_every_gold_file(boards):
    scored = json.loads(json.dumps(as_json(boards, RESAMPLES, 7), allow_nan=False))
    assert scored["bootstrap"] == {"resamples": 20, "seed": 7, "interval": 0.95}
    first, second = scored["golds"]
    assert (first["name"], first["path"]) == ("<web>/gold.jsonl", "data/<web>/gold.jsonl")
    assert (first["captions"], first["tags"]) == (2, 4)
    assert first["tags_with_a_word_that_the_caption_lacks"] == 2
    better, worse = first["parsers"]
    assert better["exact_match"]["value"] == 1
    assert (better["captions_per_second"], better["cold_start_seconds"]) == (1234.5, 0.25)
    assert worse["not_answered"] == 1
    assert worse["objects"]["precision"]["value"] == 0.5
    assert worse["attributes"]["precision"]["value"] is None
    assert worse["f1_less_first"]["objects"]["value"] == pytest.approx(-0.6)
    assert better["f1_less_first"] == {}
    assert second["parsers"][1]["objects"]["recall"]["value"] == 0
