"""NLTK's tags: what is seen, what it is like, and nothing else."""

import pickle
import subprocess
import sys

import pytest

from common.errors import UserError
from eval.parser_scores.gold import read_gold
from eval.parser_scores.tag_scores import Comparer, score
from parsing.baselines.nltk_parser import TAGGER, NltkConfig


@pytest.fixture(scope="module")
def config(shared):
    return NltkConfig(data=(str(shared.parent / "nltk_data"),))


@pytest.fixture(scope="module")
def parser(config):
    return config.build()


@pytest.mark.parametrize(
    ("caption", "objects", "attributes"),
    [
        ("a young girl on a wooden bed", ["girl", "bed"], ["young girl", "wooden bed"]),
        ("The black and white shirt", ["shirt"], ["black shirt", "white shirt"]),
        ("two dogs", ["dog"], ["two dog"]),
        ("the window frame is white .", ["window frame"], ["white window frame"]),
        ("a man with light brown hair", ["man", "hair"], ["light brown hair"]),
        ("metal poles near a stone wall", ["pole", "wall"], ["metal pole", "stone wall"]),
        ("a plate on the side of the table", ["plate", "table"], []),
        ("the dog in front of the house", ["dog", "house"], []),
        ("a group of people on grass", ["people", "grass"], []),
        ("a photo of a cat", ["cat"], []),
        ("a man 's hat", ["man", "hat"], []),
        ("many other cars", ["car"], []),
        ("a horse with its mouth open", ["horse", "mouth"], ["open mouth"]),
        ("two women skiing", ["woman"], ["two woman", "skiing woman"]),
        ("a dog with a stuffed bear", ["dog", "bear"], ["stuffed bear"]),
        ("<PERSON> wearing a hat", ["person", "hat"], []),
        ("a very tall building", ["building"], ["very tall building"]),
        ("there is snow on the mountain", ["snow", "mountain"], []),
        ("vector illustration", [], []),
    ],
)
def test_noun_runs_are_objects_and_adjectives_describe_them(parser, caption, objects, attributes):
    (parsed,) = parser.parse([caption])
    assert parsed.objects == objects
    assert [f"{attribute} {thing}" for attribute, thing in parsed.attributes] == attributes


@pytest.mark.parametrize("caption", ["", "   ", "123 !!", "🙂", "--"])
def test_a_caption_without_words_is_empty_and_no_error(parser, caption):
    (parsed,) = parser.parse([caption])
    assert (parsed.status, parsed.objects) == ("empty", [])


def test_any_real_caption_has_one_answer_whose_pairs_name_its_objects(parser, shared):
    lines = (shared / "captions" / "cc3m_val_dev.tsv").read_text().splitlines()[:1000]
    captions = [line.split("\t")[1] for line in lines]
    captions += ["a " * 4_999, "red and " * 1_249, "very red , " * 900, "\x00\udcff"[:1]]
    captions += ["العربية", "a\tb\nc"]
    answers = parser.parse(captions)
    assert len(answers) == len(captions)
    for parsed in answers:
        assert len(parsed.objects) == len(set(parsed.objects))
        assert {thing for _, thing in parsed.attributes} <= set(parsed.objects)


def test_scores_of_the_gold_captions_hold(parser, shared):
    gold = read_gold(shared / "gold" / "factual_dev.csv")
    compare = Comparer().compare
    answers = parser.parse([item.caption for item in gold])
    scores = score([compare(*pair) for pair in zip(gold, answers, strict=True)], resamples=1)
    assert scores.f1["objects"].value >= 0.90
    assert scores.f1["attributes"].value >= 0.80


def test_the_configuration_travels_and_names_all_that_changes_tags(config):
    assert pickle.loads(pickle.dumps(config)) == config
    fingerprint = config.fingerprint()
    assert fingerprint["parser"] == "nltk"
    assert {"nltk", "words", "normalisation"} <= fingerprint.keys()
    assert NltkConfig(data=("/elsewhere",)).fingerprint() == fingerprint


def test_folders_of_nltk_data_are_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NLTK_DATA", "some/data")
    assert NltkConfig().data == (str(tmp_path / "some" / "data"),)


def test_missing_data_are_asked_of_nltk_s_downloader_and_else_named(monkeypatch, tmp_path):
    import nltk

    asked = []
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(nltk, "download", lambda name, **_: asked.append(name) or False)
    with pytest.raises(UserError, match="set NLTK_DATA to a folder that holds") as caught:
        NltkConfig(data=()).check()
    assert asked == [TAGGER]
    assert "\n" not in str(caught.value)


def test_importing_the_parser_loads_nothing_heavy(root):
    code = "import sys, parsing.baselines.nltk_parser; print('nltk' in sys.modules, 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert shown.stdout.split() == ["False", "False"]
