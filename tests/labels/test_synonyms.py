"""Tags that count as others: by files, by rules, by WordNet."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from common.errors import UserError
from labels.build import build
from labels.counting import COUNTS
from labels.settings import Settings
from labels.synonyms import found_synonyms, written_synonyms


def _tags(**counts: int | tuple[int, int]) -> pl.DataFrame:
    rows = []
    for name, count in counts.items():
        objects, attributes = count if isinstance(count, tuple) else (count, 0)
        tag = name.replace("__", "-").replace("_", " ")
        rows += [("object", tag, objects)] * bool(objects)
        rows += [("attribute", tag, attributes)] * bool(attributes)
    return pl.DataFrame(rows, schema=COUNTS, orient="row")


def test_rules_join_what_occurs_under_the_most_frequent():
    tags = _tags(t__shirt=50, tee_shirt=3, tshirt=9, grey=(1, 30), gray=(2, 20), cacti=2, cactus=8,
                 glasses=5, glass=7, aeroplane=4, dog=3)  # fmt: skip
    assert found_synonyms(["rules"], tags) == {
        "cacti": "cactus", "gray": "grey", "tee shirt": "t-shirt", "tshirt": "t-shirt",
    }  # fmt: skip


def test_tags_of_a_given_vocabulary_stand_for_their_groups_and_stay_apart():
    tags = _tags(grey=90, gray=20, colour=30, color=2, teacup=5, tea_cup=4)
    assert found_synonyms(["rules"], tags, keep=["color", "grey", "gray"]) == {
        "colour": "color", "tea cup": "teacup",
    }  # fmt: skip


def test_files_are_read_beside_names_and_must_not_disagree(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("auto\tcar\n")
    two.write_text("auto\ttruck\n")
    assert written_synonyms([str(one), "rules"]) == {"auto": "car"}
    with pytest.raises(UserError, match="counts 'auto' as 'truck', another file as 'car'"):
        written_synonyms([str(one), str(two)])


def test_rules_change_counts_labels_and_summary_and_follow_a_file(tmp_path, write_tags):
    rows = [
        {"objects": ["grey cat", "gray cat"]},
        {"objects": ["gray cat"]},
        {"objects": ["kitty"]},
        {"objects": ["dog"]},
    ]
    folder = write_tags(tmp_path / "tags", rows)
    (tmp_path / "own").write_text("kitty\tgrey cat\n")
    settings = Settings(
        tags=(str(folder),), out=str(tmp_path / "x.parquet"), k=1, kinds="object", page=False,
        synonyms=("rules", str(tmp_path / "own")),
    )  # fmt: skip
    summary, [coverage] = build(settings, note=lambda _: None)
    assert coverage.vocabulary.tags == ["gray cat"]
    assert coverage.vocabulary.counts.tolist() == [3]  # the first caption says it twice
    assert coverage.images.rows - coverage.images.empty == 3
    assert "3 distinct tags become 2, 0 others enter" in summary
    assert "covers 75.00% of all tags instead of 40.00%" in summary


# WordNet's own format: an index of words and a file of synsets, found by their place in bytes.
SYNSETS = [
    ("car auto automobile", "a motor vehicle"),
    ("sofa couch", "a seat"),
    ("wood", "of trees"),
]


@pytest.fixture
def wordnet(tmp_path, monkeypatch) -> Path:
    """A WordNet of three noun synsets, in the folder that NLTK_DATA names."""
    nltk = pytest.importorskip("nltk")
    folder = tmp_path / "nltk_data" / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for name in ("lexnames", "index.sense", "cntlist.rev", *(
        f"{kind}.{pos}" for kind in ("index", "data") for pos in ("noun", "verb", "adj", "adv")
    ), *(f"{pos}.exc" for pos in ("noun", "verb", "adj", "adv"))):  # fmt: skip
        (folder / name).write_text("")
    (folder / "lexnames").write_text("00\tnoun.artifact\t1\n")
    data, index = "", []
    for words, gloss in SYNSETS:
        place, words = f"{len(data):08d}", words.split()
        forms = " ".join(f"{word} 0" for word in words)
        data += f"{place} 00 n {len(words):02x} {forms} 000 | {gloss}  \n"
        index += [f"{word} n 1 0 1 0 {place}  \n" for word in words]
    (folder / "data.noun").write_text(data)
    (folder / "index.noun").write_text("".join(sorted(index)))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk_data")])
    nltk.corpus.wordnet._unload() if hasattr(nltk.corpus.wordnet, "_unload") else None
    return folder


def test_wordnet_joins_objects_of_one_first_synset(wordnet):
    tags = _tags(auto=5, car=90, couch=7, sofa=6, dog=3, wood=(1, 8))
    assert found_synonyms(["wordnet"], tags) == {"auto": "car", "sofa": "couch"}


def test_without_wordnet_the_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    if hasattr(nltk.corpus.wordnet, "_unload"):
        nltk.corpus.wordnet._unload()
    with pytest.raises(UserError, match=r"python -m nltk\.downloader wordnet"):
        found_synonyms(["wordnet"], _tags(car=1))
