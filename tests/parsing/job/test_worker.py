"""What runs in an actor: captions that no parser is asked about, and counts of the rest."""

from __future__ import annotations

import os
import threading
from typing import ClassVar

import pyarrow as pa
import pytest

from common.errors import UserError
from parsing.fake_parser import FakeConfig
from parsing.job.secrets import Secrets
from parsing.job.worker import COUNTED, MAX_CHARACTERS, Worker, parse_table, screen
from parsing.source.captions import CAPTIONS
from parsing.tags import EMPTY, FAILED, OK, TAGS, TOO_LONG, Parsed


class Recorder:
    """A parser that remembers what it was asked, and answers with tokens."""

    def __init__(self):
        self.asked: list[str] = []

    def parse(self, captions):
        self.asked += captions
        return [
            Parsed(["dog"], [("black", "dog")], raw="x", prompt_tokens=10, output_tokens=3)
            for _ in captions
        ]


def table(*rows: tuple[str, str | None], first: int = 0) -> pa.Table:
    ids = list(range(first, first + len(rows)))
    return pa.table([ids, [r[0] for r in rows], [r[1] for r in rows]], schema=CAPTIONS)


@pytest.mark.parametrize(
    ("caption", "status"),
    [
        ("", EMPTY),
        (" \t\n", EMPTY),
        ("\U0001f600\U0001f44d\U0001f3fd", EMPTY),
        ("2024-11-24 12:00", EMPTY),
        ("... !? [] ();", EMPTY),
        ("\x00\x07\x1b", EMPTY),
        ("a" * (MAX_CHARACTERS + 1), TOO_LONG),
        ("a dog " * 17_000, TOO_LONG),
        ("1" * (MAX_CHARACTERS + 1), TOO_LONG),
    ],
)
def test_captions_without_a_word_or_of_a_whole_page_need_no_parser(caption, status):
    assert screen(caption, None).status == status


@pytest.mark.parametrize(
    "caption", ["dog", "一只狗", "собака", "<PERSON>", "</s>", "a" * MAX_CHARACTERS]
)
def test_captions_with_a_word_in_any_script_are_parsed(caption):
    assert screen(caption, None) is None


def test_a_malformed_row_has_failed_with_its_problem_whatever_its_text():
    assert screen("a black dog", "line 3: not UTF-8") == Parsed(
        status=FAILED, error="line 3: not UTF-8"
    )


def test_every_caption_has_a_row_in_its_place_and_only_the_good_ones_are_asked():
    parser = Recorder()
    captions = table(
        ("one dog", None),
        ("", None),
        ("caf\ufffd", "line 3: not UTF-8"),
        ("x" * 20_000, None),
        ("two dogs", None),
        first=40,
    )
    tags, stats = parse_table(parser, captions)
    assert parser.asked == ["one dog", "two dogs"]
    assert tags.schema.equals(TAGS)
    assert tags["caption_id"].to_pylist() == [40, 41, 42, 43, 44]
    assert tags["caption"].to_pylist() == captions["caption"].to_pylist()
    assert tags["status"].to_pylist() == [OK, EMPTY, FAILED, TOO_LONG, OK]
    assert tags["error"].to_pylist()[3] == "20,000 characters; at most 10,000 are parsed"
    seconds = stats.pop("seconds")
    assert seconds >= 0
    assert stats == {
        "rows": 5,
        "statuses": {OK: 2, EMPTY: 1, TOO_LONG: 1, FAILED: 1},
        "objects": 2,
        "attributes": 2,
        "prompt_tokens": 20,
        "output_tokens": 6,
        "dropped_tags": 0,
    }


def test_parsers_see_cleaned_captions_and_the_table_keeps_what_was_written():
    parser = Recorder()
    captions = table(("a &lt;b&gt;red&lt;/b&gt; car.jpg", None), ("https://a.org/b", None))
    tags, _ = parse_table(parser, captions)
    assert parser.asked == ["a red car"]
    assert tags["caption"].to_pylist() == captions["caption"].to_pylist()
    assert tags["status"].to_pylist() == [OK, EMPTY]


def test_a_shard_without_one_parseable_caption_is_still_a_shard():
    tags, stats = parse_table(Recorder(), table(("", None), ("123", None)))
    assert tags["status"].to_pylist() == [EMPTY, EMPTY]
    assert stats["rows"] == 2


def test_a_parser_that_leaves_captions_out_is_an_error_and_no_gap():
    class Forgetful:
        def parse(self, captions):
            return [Parsed()] * (len(captions) - 1)

    with pytest.raises(ValueError, match="zip"):
        parse_table(Forgetful(), table(("a dog", None), ("a cat", None)))


# -- the actor -----------------------------------------------------------------------------------


def test_a_worker_counts_what_all_its_threads_have_parsed():
    worker = Worker(FakeConfig())
    assert worker.placed()["pid"] == os.getpid()
    assert worker.progress() == (0, 0)
    worker.start(Secrets())
    shard = table(*[(f"green house number {n}", None) for n in range(50)])
    threads = [threading.Thread(target=worker.parse, args=(shard,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worker.progress() == (200, 0)
    tags, stats = worker.parse(shard)
    assert tags["objects"].to_pylist()[0] == ["green", "house", "number"]
    assert stats["host"] == worker.placed()["host"]
    worker.stop()


def test_a_parsers_own_count_goes_before_the_shards():
    """A shard of minutes shows life caption by caption."""

    class Counting(Recorder):
        def tally(self):
            return 17, 99

    worker = Worker(FakeConfig())
    worker._parser = Counting()
    worker.parse(table(("a dog", None)))
    assert worker.progress() == (17, 99)


def test_a_parser_without_a_count_shows_life_within_a_shard():
    """A shard may take longer than an engine may be silent: what counts is answers, not shards."""

    class Slow:
        seen: ClassVar[list] = []

        def parse(self, captions):
            self.seen.append(worker.progress()[0])
            return [Parsed() for _ in captions]

    worker = Worker(FakeConfig())
    worker._parser = Slow()
    worker.parse(
        table(*[(f"green house number {n}", None) for n in range(3 * COUNTED)], ("", None))
    )
    assert Slow.seen == [1, COUNTED + 1, 2 * COUNTED + 1]
    assert worker.progress() == (3 * COUNTED + 1, 0)


def test_secrets_reach_the_parser_and_are_not_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_hush")
    secrets = Secrets.of_this_process()
    assert "hush" not in f"{secrets} {secrets!r}"
    monkeypatch.delenv("HF_TOKEN")
    Worker(FakeConfig()).start(secrets)
    assert os.environ["HF_TOKEN"] == "hf_hush"


def test_a_parser_that_cannot_start_says_why_and_can_still_be_stopped():
    worker = Worker(FakeConfig(broken="the model is on another planet"))
    with pytest.raises(UserError, match="the model is on another planet"):
        worker.start(Secrets())
    worker.stop()
