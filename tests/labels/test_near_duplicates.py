"""Tags of a vocabulary that may be one."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from labels.near_duplicates import load_text_encoder, near_duplicates
from labels.vocabulary import Vocabulary


def _pairs(tags: dict[str, int], kinds=None, embed=None) -> set[tuple[str, str, str]]:
    names = list(tags)
    vocabulary = Vocabulary(
        names, kinds or ["object"] * len(names), np.array(list(tags.values())), 99
    )
    return {
        (pair.reason, names[pair.first], names[pair.second])
        for pair in near_duplicates(vocabulary, embed)
    }


def test_plurals_spellings_and_misspellings_are_paired_with_the_more_frequent_tag():
    tags = {"cactus": 90, "cacti": 4, "t-shirt": 50, "tee shirt": 3, "theater": 20, "theatre": 30,
            "umbrella": 80, "umbrela": 2, "flower": 70, "flowery": 5, "plant": 60}  # fmt: skip
    assert _pairs(tags) == {
        ("plural", "cactus", "cacti"),
        ("spelling", "t-shirt", "tee shirt"),
        ("spelling", "theatre", "theater"),
        ("one letter", "umbrella", "umbrela"),
    }


def test_tags_of_different_kinds_are_no_duplicates():
    assert _pairs({"colour": 3, "color": 5}, ["object", "attribute"]) == set()


def test_close_embeddings_are_paired_where_there_is_an_encoder():
    places = {"sofa": (1, 0), "couch": (0.99, 0.14), "dog": (0, 1), "puppy": (0.1, 0.995)}

    def embed(texts):
        vectors = np.array([places[text] for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    counts = dict.fromkeys(places, 3)
    assert _pairs(counts, embed=embed) == {
        ("meaning", "sofa", "couch"),
        ("meaning", "dog", "puppy"),
    }


def test_a_text_encoder_is_any_clip_of_open_clip(root):
    embed = load_text_encoder(str(root / "workflows" / "shapes" / "clip"))
    vectors = embed(["ball", "red ball", "house"])
    assert vectors.shape[0] == 3
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    with pytest.raises(UserError, match="cannot load the text encoder no-such-model"):
        load_text_encoder("no-such-model")
