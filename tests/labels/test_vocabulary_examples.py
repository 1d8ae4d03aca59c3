"""Example captions and pairs of the tags of a vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from labels.tag_folders import open_tag_folders
from labels.vocabulary import Vocabulary
from labels.vocabulary_examples import LONGEST, find_examples, marks


@pytest.mark.parametrize(
    ("caption", "tags", "found"),
    [
        ("Two Dogs and a catalog of cats", ["cat"], ["cats"]),
        ("Two Dogs, one dog's bone", ["dog"], ["Dogs", "dog's"]),
        ("Two Dogs, one dog", ["dog"], ["Dogs", "dog"]),
        ("a red T-shirt; women in boots", ["woman"], ["women"]),
        ("a red T-shirt", ["t-shirt"], ["T-shirt"]),
        ("<PERSON> by a traffic  light", ["traffic light"], ["traffic  light"]),
        ("a grey cat", ["gray", "grey"], ["grey"]),
        ("红色的汽车", ["汽车"], ["汽车"]),
        ("nothing of it", ["dog"], []),
    ],
)
def test_a_tag_is_found_in_the_forms_that_a_caption_says_it_in(caption, tags, found):
    texts = [caption[start:end] for start, end in marks(caption, tags)]
    assert [text.removesuffix("'s") for text in texts] == [
        text.removesuffix("'s") for text in found
    ]


ROWS = [
    {"caption": "a red car", "objects": ["car"], "attributes": [("red", "car")]},
    {"caption": "a red car again", "objects": ["car"], "attributes": [("red", "car")] * 2},
    {"caption": "a wet dog", "objects": ["dog"], "attributes": [("wet", "dog")]},
    {"caption": "a dog " + "x" * 300, "objects": ["dog"], "attributes": []},
    {"caption": "rare", "objects": ["rare"], "attributes": [("odd", "rare"), None, ("red", None)]},
    {"caption": "nothing", "objects": None, "attributes": None},
]


def test_pairs_have_their_lift_and_captions_their_marks(tmp_path, write_tags):
    folders = open_tag_folders([str(write_tags(tmp_path, ROWS, shards=2))])
    kinds = ["object", "object", "attribute", "attribute"]
    vocabulary = Vocabulary(["car", "dog", "red", "wet"], kinds, np.array([2, 2, 3, 1]), captions=6)
    examples = find_examples(folders, vocabulary, {})
    assert examples.goes_with[("object", "car")] == [("red", 2, 2 * 6 / (2 * 3))]
    assert examples.goes_with[("attribute", "wet")] == [("dog", 1, 1 * 6 / (1 * 2))]
    assert [text for text, _ in examples.captions["object", "car"]] == [
        "a red car",
        "a red car again",
    ]
    assert examples.captions["attribute", "wet"] == [("a wet dog", [(2, 5)])]
    assert max(len(text) for text, _ in examples.captions["object", "dog"]) == LONGEST


def test_pairs_of_several_queries_add_up(tmp_path, write_tags, monkeypatch):
    monkeypatch.setattr("labels.vocabulary_examples.PAIR_ROWS", 1)
    folders = open_tag_folders([str(write_tags(tmp_path, ROWS, shards=3))])
    vocabulary = Vocabulary(["car", "red"], ["object", "attribute"], np.array([2, 3]), captions=6)
    examples = find_examples(folders, vocabulary, {})
    assert examples.goes_with["object", "car"] == [("red", 2, 2.0)]


def test_synonyms_count_as_their_tag(tmp_path, write_tags):
    rows = [{"caption": "an auto", "objects": ["auto"], "attributes": [("crimson", "auto")]}]
    folders = open_tag_folders([str(write_tags(tmp_path, rows))])
    vocabulary = Vocabulary(["car", "red"], ["object", "attribute"], np.array([1, 1]), captions=1)
    examples = find_examples(folders, vocabulary, {"auto": "car", "crimson": "red"})
    assert examples.goes_with["object", "car"] == [("red", 1, 1.0)]
    assert examples.captions["object", "car"] == [("an auto", [(3, 7)])]
