"""Examples come from a finished run or from gold, in the caption's own words, with a share held out."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from common.errors import UserError
from parsing.distillation.examples import Example, drawn, read_examples, recased
from parsing.distillation.settings import DistillSettings
from parsing.job.run_folder import RunFolder
from parsing.llm.answers import Form
from parsing.tags import FAILED, TAGS, Parsed, count_statuses, tags_table

CAPTIONS = [f"a red car and {n} old dogs" for n in range(60)]


def write_run(folder, parsed, finished=True):
    """A run's folder as parsing/run.py leaves it."""
    run = RunFolder(str(folder))
    with run.opened({"parser": "llm", "model": "teacher"}):
        captions = CAPTIONS[: len(parsed)]
        table = tags_table(range(len(parsed)), captions, parsed)
        run.commit(0, table, {"rows": len(parsed), "statuses": count_statuses(parsed)})
        run.update_manifest(shards=1, finished=finished)
    return str(folder)


def write_gold(folder, rows):
    path = folder / "gold.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def answered(raw):
    return Parsed(objects=["normalised"], attributes=[], raw=raw)


@pytest.fixture
def teacher(tmp_path):
    parsed = [answered("red: car; old: dogs; sofa") for _ in CAPTIONS]
    parsed[0] = Parsed(status=FAILED, error="no answer")
    parsed[1] = Parsed(raw="red: car; old", error="the answer was cut off at 4 tokens")
    return write_run(tmp_path / "teacher", parsed)


def read(**values):
    return read_examples(DistillSettings(**values), Form())


def test_a_teachers_answers_are_learned_in_the_captions_own_words(teacher):
    (source,) = read(teacher=(teacher,))
    assert {each.answer for each in source.learned} == {"red: car; old: dogs"}  # no sofa
    assert source.fingerprint == {"parser": "llm", "model": "teacher"}
    captions = {each.caption for each in [*source.learned, *source.held_out]}
    assert captions == set(CAPTIONS[2:])  # neither the failed row nor the one that was cut off


def test_gold_in_its_own_forms_is_learned_in_the_captions_words(tmp_path):
    rows = [
        {
            "caption": f"Wood table number {n} under a cell phone",
            "objects": ["table", "cellphone"],
            "attributes": [["wooden", "table"]],
        }
        for n in range(60)
    ]
    (source,) = read(gold=(write_gold(tmp_path, rows),))
    assert {each.answer for each in source.learned} == {"Wood: table; cellphone"}


def test_tags_of_a_parser_without_raw_answers_are_learned_too(tmp_path):
    parsed = [Parsed(objects=["car"], attributes=[("red", "car")]) for _ in CAPTIONS]
    (source,) = read(teacher=(write_run(tmp_path / "nltk", parsed),))
    assert source.learned[0].answer == "red: car"


def test_the_held_out_share_is_the_same_every_time_and_never_learned(teacher):
    first, second = (read(teacher=(teacher,), held_out=0.3)[0] for _ in range(2))
    assert first == second
    held = {each.caption for each in first.held_out}
    assert 5 <= len(held) <= 30
    assert not held & {each.caption for each in first.learned}
    other = read(teacher=(teacher,), held_out=0.3, seed=1)[0]
    assert {each.caption for each in other.held_out} == held  # both may be averaged
    assert len(read(teacher=(teacher,), held_out=0.9, max_held_out=1)[0].held_out) <= 5


def test_sources_are_drawn_as_often_as_their_weights_say(teacher):
    (source,) = read(teacher=(f"{teacher}:2.5",))
    count = len(source.learned)
    assert len(drawn([source], 1, seed=0)) == 2 * count + round(count / 2)
    assert len(drawn([source], 2, seed=0)) == 5 * count
    assert set(drawn([source], 1, seed=0)) == set(source.learned)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda run: (run / "manifest.json").unlink(), "holds no run: it has no manifest.json"),
        (lambda run: (run / "manifest.json").write_text("{}"), "holds no run"),
        (
            lambda run: _change(run / "manifest.json", finished=False),
            "is not finished: run its command again first",
        ),
        (lambda run: (run / "part-000000.parquet").unlink(), "part-000000.parquet"),
        (lambda run: (run / "part-000000.parquet").write_bytes(b"PAR1"), "cannot be read"),
    ],
)
def test_a_teacher_that_is_no_finished_run_is_told_in_one_sentence(teacher, damage, sentence):
    from pathlib import Path

    damage(Path(teacher))
    with pytest.raises(UserError, match=sentence) as told:
        read(teacher=(teacher,))
    assert "\n" not in str(told.value)


def _change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_teacher_of_another_schema_is_told_by_its_column(teacher):
    import pyarrow.parquet as pq

    place = TAGS.get_field_index("raw")
    table = pq.read_table(f"{teacher}/part-000000.parquet")
    pq.write_table(
        table.set_column(place, "raw", pa.nulls(len(table))), f"{teacher}/part-000000.parquet"
    )
    with pytest.raises(UserError, match="holds no tags: column `raw` is null"):
        read(teacher=(teacher,))


def test_a_teacher_whose_answers_all_failed_is_told(tmp_path):
    url = write_run(tmp_path / "failed", [Parsed(status=FAILED, error="x") for _ in CAPTIONS])
    with pytest.raises(UserError, match="has no answer to learn from"):
        read(teacher=(url,))


def test_gold_whose_tags_are_not_in_the_captions_is_told(tmp_path):
    path = tmp_path / "gold.jsonl"
    row = {"caption": "a red car", "objects": ["voiture"], "attributes": []}
    path.write_text("".join(json.dumps(row | {"caption": c}) + "\n" for c in CAPTIONS))
    with pytest.raises(UserError, match=r"of \d+ objects are not in the words of their captions"):
        read(gold=(str(path),))


def test_gold_is_written_in_the_captions_order_and_spelling(tmp_path):
    rows = [
        {
            "caption": f"Two DOGS and a red car {n}",
            "objects": ["car", "dog"],
            "attributes": [["2", "dog"]],
        }
        for n in range(20)
    ]
    (source,) = read(gold=(write_gold(tmp_path, rows),))
    assert source.learned[0] == Example(source.learned[0].caption, "Two: DOGS; car")
    assert source.fingerprint is None


def test_a_share_of_the_captions_is_learned_in_another_case_with_its_answer():
    examples = [Example(f"a Red car {n}", "Red: car") for n in range(400)]
    found = recased(examples, 0.5, seed=0)
    changed = [each for each, before in zip(found, examples, strict=True) if each != before]
    assert 150 < len(changed) < 250
    assert {each.answer for each in changed} == {"red: car", "RED: CAR", "Red: Car"}
    assert all(each.answer.split(": ")[0] in each.caption for each in found)
    assert recased(examples, 0.0, seed=0) == examples
