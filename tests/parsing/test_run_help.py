"""`--help` fits a screen, and every flag is explained under one topic."""

import pytest

from parsing.run import TOPICS, main, parse_flags
from parsing.source.readers import Source


def test_the_short_help_lists_every_flag_once(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 40
    flags = [word for word in shown.split() if word.startswith("--") and word != "--help"]
    known = {f"--{name.replace('_', '-')}" for name in vars(parse_flags([]))} - {
        "--help",
        "--paths",
    }
    assert set(flags) >= known
    for topic in TOPICS:
        assert f"--help {topic}" in shown


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_explains_its_flags_on_one_screen(topic, capsys):
    assert main(["--help", topic]) == 0
    shown = capsys.readouterr().out
    assert TOPICS[topic][0] in shown
    assert len(shown.splitlines()) <= 40


def test_an_unknown_topic_is_told(capsys):
    assert main(["--help", "weather"]) == 2
    assert "topics are captions, run, llm, endpoint, parsers, cluster" in capsys.readouterr().err


def test_captions_may_be_named_at_once_or_one_by_one():
    from common.flags import given

    flags = parse_flags(["--captions", "a", "b", "--captions", "c"])
    assert given(flags, Source)["paths"] == ("a", "b", "c")
    assert given(parse_flags([]), Source)["paths"] == ("data/captions",)
