"""Settings say what is wrong, and tell two trainings apart by what changes the student."""

from dataclasses import replace

import pytest

from common.errors import UserError
from parsing.distillation.settings import DistillSettings, SourceName

GOLD = DistillSettings(gold=("a.jsonl",))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"gold": ()}, "nothing to learn from"),
        ({"rank": 0}, "--rank must be at least 1, not 0"),
        ({"members": 0}, "--members 0 makes no student: give 1 or more, or 0 with --average-with"),
        ({"members": -1, "average_with": ("a",)}, "--members -1 makes no student"),
        ({"save_steps": 0}, "--save-steps must be at least 1"),
        ({"lr": 0.0}, "--lr must be above 0"),
        ({"lr": float("nan")}, "--lr must be above 0"),
        ({"epochs": -1.0}, "--epochs must be above 0"),
        ({"dropout": 1.0}, "--dropout must be at least 0 and below 1"),
        ({"recase": -0.1}, "--recase must be at least 0 and below 1"),
        ({"held_out": 1.0}, "--held-out must lie between 0 and 1"),
    ],
)
def test_a_value_out_of_range_is_named(values, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(GOLD, **values)


def test_the_digest_follows_what_changes_the_student():
    data = {"a.jsonl": "1"}
    digest = GOLD.digest(data)
    assert replace(GOLD, output="elsewhere", test=("b.csv",), save_steps=7).digest(data) == digest
    assert replace(GOLD, rank=8).digest(data) != digest
    assert GOLD.digest({"a.jsonl": "2"}) != digest


@pytest.mark.parametrize(
    ("text", "name", "weight"),
    [
        ("a.jsonl", "a.jsonl", 1.0),
        ("data/a.csv:2.5", "data/a.csv", 2.5),
        ("s3://bucket/tags", "s3://bucket/tags", 1.0),
        ("s3://bucket/tags:0.5", "s3://bucket/tags", 0.5),
        ("odd:name", "odd:name", 1.0),
    ],
)
def test_a_source_may_have_a_weight(text, name, weight):
    assert SourceName.of(text, "--gold") == SourceName(name, weight)


@pytest.mark.parametrize("weight", ["0", "-1", "1000"])
def test_a_weight_out_of_range_is_named(weight):
    with pytest.raises(UserError, match=r"--gold a:.*the weight must lie above 0 and up to 100"):
        SourceName.of(f"a:{weight}", "--gold")
