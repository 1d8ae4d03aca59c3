"""The table of tags before and after the check: what counts as right, and a whole small run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from common.errors import UserError
from labels.reader import Labels
from parsing.job.run_folder import RunFolder
from parsing.tags import Parsed, tags_table
from workflows.tag_check_settings import LLM, SAID, Settings
from workflows.tag_check_tables import tag_table, training_table
from workflows.tag_check_world import CheckedWorld, Quality, Scores, _count, _quality
from workflows.tag_checks import run


def test_precision_is_against_what_is_shown_and_recall_against_what_is_said_and_shown():
    counts: Counter = Counter()
    # found: ball (said, shown), hat (absent), tree (shown, not said); car is said, shown and missed
    _count(counts, {"ball", "hat", "tree"}, {"ball", "car"}, frozenset({"ball", "tree", "car"}))
    assert _quality(counts) == Quality(2 / 3, 1 / 2)


def test_f1():
    assert Quality(0.5, 1.0).f1 == pytest.approx(2 / 3)
    assert Quality(0.0, 0.0).f1 == 0


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    out = tmp_path_factory.mktemp("world") / "out"
    return Settings(out=str(out), train=150, held_out=1, tuning=1, parsers=(SAID, "tag2text"))


def test_a_world_is_made_checked_and_judged(settings):
    path = run(settings)
    text = path.read_text()
    assert settings.command in text
    assert "| all that captions say | objects | " in text
    assert "| Tag2Text | pairs |" not in text  # it has no attributes
    world = CheckedWorld(settings)
    before, after = world.scores(SAID)
    assert before.objects.recall == before.pairs.recall == 1
    assert 0.6 < before.objects.precision < 0.9
    assert after.objects.precision > before.objects.precision
    assert after.objects.recall < 1
    tags = {SAID: {tag for one in world.tags(SAID) for tag in one.objects}}
    vocabulary = Labels(world.labels(SAID)).vocabulary
    assert tags[SAID] == {
        tag for tag, kind in zip(vocabulary.tags, vocabulary.kinds, strict=True) if kind == "object"
    }
    times = {file: file.stat().st_mtime_ns for file in Path(settings.out).glob("*.parquet")}
    run(settings)
    assert times == {file: file.stat().st_mtime_ns for file in times}


def test_tables_show_before_and_after_and_a_verdict():
    half, whole = Quality(0.5, 1.0), Quality(1.0, 1.0)
    line = tag_table([(SAID, Scores(half, half), Scores(whole, whole))]).splitlines()[2]
    assert (
        line == "| all that captions say | objects | 50.0 → 100.0 | 100.0 → 100.0 | 66.7 → 100.0 |"
    )
    text = training_table([("unchecked", [1.0, 2.0], [1, 2]), ("checked", [5.0, 6.1], [1, 2])])
    assert "checked tags help mIoU" in text
    assert "checked tags make no clear difference for expressions" in text


def test_the_llms_tags_are_found_by_their_captions(settings, monkeypatch, tmp_path):
    world = CheckedWorld(settings)
    world.make()
    texts = [one.caption.text for one in world.samples]
    wanted = [Parsed([f"thing {i % 3}"], [("red", f"thing {i % 3}")]) for i in range(len(texts))]
    of_text = dict(zip(texts, wanted, strict=True))  # two scenes can have one caption
    order = sorted(of_text)
    folder = RunFolder(str(tmp_path))
    folder.commit(0, tags_table(range(len(order)), order, [of_text[one] for one in order]), {})
    monkeypatch.setattr(world.chain, "tags", lambda parser: tmp_path)
    found = world.tags(LLM)
    assert [one.objects for one in found] == [of_text[text].objects for text in texts]
    assert found[0].attributes == of_text[texts[0]].attributes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parsers": ("rake",)}, "--parsers takes said, llm, nltk, spacy, tag2text, not 'rake'"),
        ({"seeds": (0,), "parsers": (SAID,)}, "--trained nltk is none of --parsers"),
        ({"train": 0}, "--train"),
    ],
)
def test_bad_settings_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        Settings(**changes)
