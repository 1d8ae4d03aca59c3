"""Gold tags of web captions, joined with captions that are not part of the repository."""

from __future__ import annotations

import json

import pytest

from eval.parser_scores.gold import read_gold
from workflows.command import run_command
from workflows.web_gold import TAGS, Settings, caption_hash, join, read_tags

GIRL = "a young girl on a bed , été"


@pytest.fixture
def tags(tmp_path):
    path = tmp_path / "tags.jsonl"
    rows = [
        {
            "caption_sha256": caption_hash(caption),
            "objects": [thing],
            "attributes": [["young", thing]],
        }
        for caption, thing in ((GIRL, "girl"), ("a young cat", "cat"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments) -> int:
    return run_command("", Settings, join, [str(one) for one in arguments])


def test_captions_that_are_found_get_their_tags(tmp_path, tags, capsys):
    source, output = tmp_path / "captions.tsv", tmp_path / "gold.jsonl"
    source.write_text(f"http://a/1.jpg\tno tags\nhttp://a/2.jpg\t{GIRL}\n" * 2)
    assert run("--captions", source, "--tags", tags, "--output", output) == 0
    assert "1 of 2 captions were found" in capsys.readouterr().out
    (gold,) = read_gold(output)
    assert (gold.caption, gold.objects, gold.attributes) == (
        GIRL,
        ("girl",),
        (("young", "girl"),),
    )


def test_nothing_found_and_damaged_tags_are_one_sentence(tmp_path, tags, capsys):
    source, output = tmp_path / "captions.tsv", tmp_path / "gold.jsonl"
    source.write_text("http://a/1.jpg\tanother\n")
    given = ("--captions", source, "--output", output)
    assert run(*given, "--tags", tags) == 2
    assert "none of the 2 captions" in capsys.readouterr().err
    tags.write_text(tags.read_text() + '{"objects": []}\n')
    assert run(*given, "--tags", tags) == 2
    assert "line 3: no `caption_sha256`" in capsys.readouterr().err
    assert run(*given, "--tags", tmp_path / "absent") == 2
    assert "cannot read the tags" in capsys.readouterr().err
    assert run("--output", output) == 2
    assert "--captions is missing" in capsys.readouterr().err
    assert not output.exists()


def test_only_a_line_feed_ends_a_line(tmp_path):
    """JSON may hold the other characters that end a line, such as U+2028, as they are."""
    path = tmp_path / "tags.jsonl"
    row = {"caption_sha256": "0" * 16, "objects": ["a\u2028b\x85c"], "attributes": []}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n")
    ((_, found),) = read_tags(path)
    assert found["objects"] == row["objects"]


def test_the_tags_that_ship_are_sound():
    """Every attribute belongs to an object, and no caption stands there twice."""
    rows = list(read_tags(TAGS))
    assert len({key for key, _ in rows}) == len(rows) > 1_000
    for key, row in rows:
        assert len(key) == 16
        assert {thing for _, thing in row["attributes"]} <= set(row["objects"])
        assert not set(row["objects"]) & set(row.get("maybe", []))


@pytest.mark.parametrize("held_out", ["gold/web_train.jsonl", "gold/web_dev.jsonl"])
def test_the_tags_that_ship_are_of_other_captions_than_the_gold_they_go_with(shared, held_out):
    shipped = {key for key, _ in read_tags(TAGS)}
    assert not shipped & {caption_hash(row.caption) for row in read_gold(shared / held_out)}
