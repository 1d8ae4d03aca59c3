"""Two parsers judged by two gold files: a small one with markup in it, and one with nothing to it."""

from __future__ import annotations

import pytest

from eval.parser_scores.answers import Answers
from eval.parser_scores.gold import GoldCaption, GoldFile
from eval.parser_scores.scoreboard import Scoreboard
from parsing.tags import Parsed

NASTY = 'a <script>alert(1)</script> dog & a "cat"'


@pytest.fixture(scope="session")
def boards() -> list[Scoreboard]:
    nasty = GoldFile(
        "<web>/gold.jsonl",
        "data/<web>/gold.jsonl",
        (
            GoldCaption("a red car", ("car",), (("red", "car"),), ("<i>haze</i>",), ()),
            GoldCaption(NASTY, ("<b>dog</b>", "yeti"), ()),
        ),
    )
    plain = GoldFile("old/gold.jsonl", "data/old/gold.jsonl", (GoldCaption("a cat", ("cat",), ()),))
    better = [
        Answers("better", parsed, 1234.5, 0.25)
        for parsed in (
            [Parsed(["car"], [("red", "car")]), Parsed(["<b>dog</b>", "yeti"])],
            [Parsed(["cat"])],
        )
    ]
    worse = [
        Answers("worse", parsed, None, None)
        for parsed in (
            [
                Parsed(["car", "<i>sky</i>", "<i>haze</i>"]),
                Parsed(status="failed", error="<u>no</u>"),
            ],
            [Parsed()],
        )
    ]
    return [
        Scoreboard.of(gold, answers, resamples=20)
        for gold, *answers in zip((nasty, plain), better, worse, strict=True)
    ]
