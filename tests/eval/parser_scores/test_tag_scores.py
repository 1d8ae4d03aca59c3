"""Scores are those of the FACTUAL convention, and their intervals say what noise does."""

import math

import pytest

from eval.parser_scores.gold import GoldCaption
from eval.parser_scores.tag_scores import Comparer, f1_difference, score
from parsing.tags import Parsed

GOLD = GoldCaption(
    "two black dogs on a bench", ("dogs", "bench"), (("2", "dogs"), ("black", "dogs"))
)


def compare(gold, objects, attributes=()):
    return Comparer().compare(gold, Parsed(list(objects), list(attributes)))


def test_both_sides_are_compared_in_lower_case_singular_and_digits():
    result = compare(GOLD, ["Dog", "Benches"], [("Two", "dog"), ("BLACK", "dogs")])
    assert result.exact
    assert result.right["pairs"] == [("2", "dog"), ("black", "dog")]


def test_right_wrong_and_missed_are_told_apart():
    result = compare(GOLD, ["dog", "cat"], [("black", "dog"), ("black", "cat")])
    assert result.right == {
        "objects": ["dog"],
        "attributes": ["black"],
        "pairs": [("black", "dog")],
    }
    assert result.wrong == {"objects": ["cat"], "attributes": [], "pairs": [("black", "cat")]}
    assert result.missed == {"objects": ["bench"], "attributes": ["2"], "pairs": [("2", "dog")]}
    assert not result.exact


def test_a_tag_counts_once_per_caption():
    scores = score([compare(GOLD, ["dog", "dogs", "Dog"])], resamples=1)
    assert scores.precision["objects"].value == 1
    assert scores.recall["objects"].value == 0.5


def test_stock_words_of_the_gold_are_not_left_out():
    gold = GoldCaption("animals in the background", ("animals", "background"), ())
    assert compare(gold, ["animal"]).missed["objects"] == ["background"]


def test_scores_are_micro_averages():
    other = GoldCaption("a cat", ("cat",), ())
    results = [compare(GOLD, ["dog", "tree", "sky"]), compare(other, ["cat"])]
    scores = score(results, resamples=1)
    assert scores.precision["objects"].value == pytest.approx(2 / 4)
    assert scores.recall["objects"].value == pytest.approx(2 / 3)
    assert scores.f1["objects"].value == pytest.approx(4 / 7)
    assert scores.exact.value == 0.5


def test_a_figure_without_denominator_has_no_value():
    scores = score([compare(GOLD, ["dog"])], resamples=5)
    assert math.isnan(scores.precision["attributes"].value)
    assert scores.recall["attributes"].value == 0


@pytest.mark.parametrize(
    ("caption", "tag", "grounded"),
    [
        ("two wolves running", "wolf", True),
        ("two wolves running", "run", True),
        ("a blue wet suit", "wetsuit", True),
        ("a heart-shaped box", "heart", True),
        ("a wood table", "wooden", True),
        ("a catalogue", "cat", False),
        ("a dog", "puppy", False),
        ("a dog", "brown dog", False),
    ],
)
def test_a_tag_is_grounded_when_the_caption_says_its_words(caption, tag, grounded):
    result = compare(GoldCaption(caption, (), ()), [tag])
    assert (result.tags, result.ungrounded) == (1, 0 if grounded else 1)


def test_intervals_hold_the_value_and_narrow_with_more_captions():
    good, bad = compare(GOLD, ["dog", "bench"]), compare(GOLD, ["cat"])
    few = score([good, bad] * 10, resamples=400).f1["objects"]
    many = score([good, bad] * 250, resamples=400).f1["objects"]
    for one in (few, many):
        assert one.low < one.value < one.high
    assert few.value == pytest.approx(many.value)
    assert many.high - many.low < (few.high - few.low) / 3


def test_intervals_depend_on_the_seed_alone():
    results = [compare(GOLD, ["dog"]), compare(GOLD, ["dog", "bench"]), compare(GOLD, ["cat"])] * 7
    assert score(results, seed=3).f1 == score(results, seed=3).f1
    assert score(results, seed=3).f1["objects"] != score(results, seed=4).f1["objects"]


def test_paired_differences_know_that_two_parsers_are_one():
    results = [compare(GOLD, ["dog"]), compare(GOLD, ["dog", "bench"])] * 10
    gap = f1_difference(results, results, "objects")
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)


def test_paired_differences_see_what_overlapping_intervals_hide():
    hard, easy = compare(GOLD, ["cat"]), compare(GOLD, ["dog", "bench"])
    first = [hard, easy] * 40 + [hard, hard, hard]
    second = [hard, easy] * 40 + [easy, easy, easy]
    one, two = (score(side).f1["objects"] for side in (first, second))
    assert one.high > two.low
    assert f1_difference(first, second, "objects").value > 0
    assert f1_difference(first, second, "objects").low >= 0
