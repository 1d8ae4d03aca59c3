"""The closing summary: what was found, counted once a caption."""

from __future__ import annotations

import pytest

from parsing.job.run_folder import RunFolder
from parsing.job.summary import TOP, summarise, top_tags
from parsing.tags import FAILED, Parsed, tags_table

SHARDS = [
    [
        Parsed(["dog", "sofa"], [("black", "dog"), ("black", "sofa"), ("soft", "sofa")]),
        Parsed(["dog"], [("white", "dog")]),
    ],
    [
        Parsed(["cat", "dog"], [("black", "cat")]),
        Parsed(status=FAILED, error="no"),
        Parsed(["cat"], []),
    ],
]


@pytest.fixture
def run(tmp_path) -> RunFolder:
    run = RunFolder(str(tmp_path / "tags"))
    with run.opened({"parser": "fake"}):
        for number, parsed in enumerate(SHARDS):
            texts = [f"caption {n}" for n in range(len(parsed))]
            run.commit(number, tags_table(range(len(parsed)), texts, parsed), {"rows": len(parsed)})
        run.update_manifest(
            shards=2,
            images=12_345,
            counts={
                "rows": 5,
                "statuses": {"ok": 4, "empty": 0, "failed": 1},
                "objects": 6,
                "attributes": 5,
                "output_tokens": 45,
            },
            sessions=[
                {"seconds": 3.0, "actor_hours": 9.0},
                {
                    "seconds": 7_300,
                    "actor_hours": 4.06,
                    "seconds_to_first_commit": 33.4,
                    "seconds_to_input_read": 611.0,
                },
            ],
        )
    return run


def test_tags_are_counted_once_a_caption_and_ties_go_by_the_alphabet(run):
    objects, attributes = top_tags(run, 2)
    assert objects == [("dog", 3), ("cat", 2), ("sofa", 1)]
    assert attributes == [("black", 2), ("soft", 1), ("white", 1)]
    assert top_tags(run, 2, count=1) == ([("dog", 3)], [("black", 2)])
    assert top_tags(run, 1) == (
        [("dog", 2), ("sofa", 1)],
        [("black", 1), ("soft", 1), ("white", 1)],
    )


def test_the_summary_says_what_came_out_what_it_cost_and_where_it_is(run):
    assert summarise(run).splitlines() == [
        "5 captions of 12,345 images: 4 ok, 1 failed",
        "6 objects, 5 attributes",
        "45 tokens out, 9.0 a caption",
        "this part took 2 h 01 min, parsers were held for 4.06 h in all",
        "the first shard was there after 33 s, the input was read after 10 min",
        "most frequent objects: dog 3, cat 2, sofa 1",
        "most frequent attributes: black 2, soft 1, white 1",
        f"tags: {run.url}/part-*.parquet",
    ]


def test_no_more_than_twenty_tags_are_shown(tmp_path):
    run = RunFolder(str(tmp_path))
    with run.opened({}):
        parsed = [Parsed([f"object {n:02}"]) for n in range(30)]
        run.commit(0, tags_table(range(30), [""] * 30, parsed), {"rows": 30})
    objects, attributes = top_tags(run, 1)
    assert TOP == 20
    assert [name for name, _ in objects] == [f"object {n:02}" for n in range(20)]
    assert attributes == []
