"""Scores are those of the FACTUAL convention, and their intervals say what noise does."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.parser_scores.gold import GoldCaption
from eval.parser_scores.tag_scores import KINDS, Comparer, f1_difference, score
from parsing.tags import Parsed

GOLD = GoldCaption(
    "two black dogs on a bench", ("dogs", "bench"), (("2", "dogs"), ("black", "dogs"))
)
SUNSET = GoldCaption(
    "old dog at a golden sunset",
    ("dog",),
    (("old", "dog"),),
    ("sunsets",),
    (("golden", "sunset"), ("sitting", "dog")),
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
        ("two surf boards", "surfboard", True),
        ("a t shirt", "t-shirt", True),
        ("a hotdog bun", "hot dog bun", True),
        ("a hot pan and a dog", "hotdog", False),
        ("a heart-shaped box", "heart", True),
        ("a wood table", "wooden", True),
        ("a catalogue", "cat", False),
        ("a dog", "puppy", False),
        ("a dog", "brown dog", False),
        ("a -blue dog --", "blue dog", True),
    ],
)
def test_a_tag_is_grounded_when_the_caption_says_its_words(caption, tag, grounded):
    result = compare(GoldCaption(caption, (), ()), [tag])
    assert (result.tags, result.ungrounded) == (1, 0 if grounded else 1)


@given(st.text("ab -'’–", max_size=12))
def test_any_caption_can_be_scored(caption):
    assert compare(GoldCaption(caption, (), ()), ["zebra"]).ungrounded == 1


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


def test_an_arguable_object_counts_neither_for_nor_against():
    result = compare(SUNSET, ["dog", "Sunset", "cat"])
    assert result.arguable["objects"] == ["sunset"]
    assert (result.right["objects"], result.wrong["objects"]) == (["dog"], ["cat"])
    assert score([result], resamples=1).precision["objects"].value == 1 / 2
    assert compare(SUNSET, ["dog"]).missed["objects"] == []


def test_an_arguable_attribute_is_arguable_of_whatever_object_as_a_word_alone():
    result = compare(SUNSET, ["dog"], [("Golden", "dog"), ("sitting", "dog"), ("wet", "dog")])
    assert result.arguable["attributes"] == ["golden", "sitting"]
    assert result.wrong["attributes"] == ["wet"]
    assert result.missed["attributes"] == ["old"]


def test_a_pair_is_arguable_itself_or_by_its_object():
    pairs = [("sitting", "dogs"), ("golden", "sunset"), ("huge", "sunset"), ("golden", "dog")]
    result = compare(SUNSET, ["dog", "sunset"], pairs)
    assert result.arguable["pairs"] == [
        ("golden", "sunset"),
        ("huge", "sunset"),
        ("sitting", "dog"),
    ]
    assert result.wrong["pairs"] == [("golden", "dog")]
    assert result.missed["pairs"] == [("old", "dog")]


def test_gold_tags_stay_gold_where_the_gold_calls_them_arguable_too():
    gold = GoldCaption(
        "red sky", ("sky",), (("red", "sky"),), ("sky",), (("red", "sky"), ("red", "sea"))
    )
    right = compare(gold, ["sky"], [("red", "sky")])
    assert right.exact
    assert right.right == {"objects": ["sky"], "attributes": ["red"], "pairs": [("red", "sky")]}
    assert not any(right.arguable.values())
    missed = compare(gold, [])
    assert missed.missed == right.right
    assert compare(gold, ["sky"], [("wet", "sky")]).wrong["pairs"] == [("wet", "sky")]


def test_arguable_tags_leave_an_exact_match_exact_and_an_inexact_one_inexact():
    assert compare(SUNSET, ["dog", "sunset"], [("old", "dog"), ("sitting", "dog")]).exact
    assert not compare(SUNSET, ["sunset"], [("sitting", "dog")]).exact


def test_arguable_tags_are_ungrounded_as_others_are():
    gold = GoldCaption("a dog", ("dog",), (), ("evening",), ())
    result = compare(gold, ["dog", "evening"])
    assert (result.arguable["objects"], result.tags, result.ungrounded) == (["evening"], 2, 1)


def test_gold_tags_with_a_word_that_the_caption_lacks_are_counted_and_accepted():
    gold = GoldCaption("a wood table", ("table", "chair"), (("wooden", "table"), ("4", "chair")))
    assert Comparer().reach(gold) == (4, 2)
    assert compare(gold, ["chair"]).right["objects"] == ["chair"]
    assert Comparer().reach(SUNSET) == (2, 0)


_TAGS = st.lists(
    st.sampled_from(["dog", "dogs", "Cat", "red bench", "two", "2", "sky"]), max_size=5
)
_PAIRS = st.lists(
    st.tuples(st.sampled_from(["red", "two", "2"]), st.sampled_from(["dog", "dogs", "sky"])),
    max_size=5,
)


@given(_TAGS, _PAIRS, _TAGS, _PAIRS)
def test_without_arguable_tags_the_comparison_is_one_of_sets(objects, attributes, tags, pairs):
    form = {"dogs": "dog", "Cat": "cat", "two": "2"}

    def sets(objects, pairs):
        pairs = {tuple(form.get(word, word) for word in pair) for pair in pairs}
        objects = {form.get(tag, tag) for tag in objects}
        return dict(zip(KINDS, (objects, {pair[0] for pair in pairs}, pairs), strict=True))

    result = compare(GoldCaption("", tuple(objects), tuple(attributes)), tags, pairs)
    wanted, got = sets(objects, attributes), sets(tags, pairs)
    for kind in KINDS:
        assert result.right[kind] == sorted(got[kind] & wanted[kind])
        assert result.wrong[kind] == sorted(got[kind] - wanted[kind])
        assert result.missed[kind] == sorted(wanted[kind] - got[kind])
        assert result.arguable[kind] == []


def test_without_arguable_tags_scores_are_bit_for_bit_what_they_were_before_there_were_any():
    results = [
        compare(GOLD, ["dog", "cat"], [("black", "dog"), ("black", "cat")]),
        compare(GOLD, ["Benches", "Dog"], [("two", "dogs"), ("BLACK", "dog")]),
        compare(GoldCaption("a cat", ("cat",), ()), ["cat", "grey sky"], [("wet", "cat")]),
        compare(GOLD, []),
    ] * 7
    scores = score(results, resamples=50, seed=1)
    figures = {
        "objects precision": scores.precision["objects"],
        "attributes recall": scores.recall["attributes"],
        "pairs F1": scores.f1["pairs"],
        "exact": scores.exact,
        "ungrounded": scores.ungrounded,
    }
    assert {name: (one.value, one.low, one.high) for name, one in figures.items()} == {
        "objects precision": (0.6666666666666666, 0.5799342105263158, 0.7473214285714286),
        "attributes recall": (0.5, 0.29107142857142854, 0.6324675324675324),
        "pairs F1": (0.5454545454545454, 0.3619869402985074, 0.648661311914324),
        "exact": (0.25, 0.10714285714285714, 0.35714285714285715),
        "ungrounded": (0.3, 0.21429425837320573, 0.4280464480874317),
    }
