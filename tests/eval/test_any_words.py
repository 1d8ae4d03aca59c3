"""What is background when a picture is segmented by any words."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from eval.any_words import BACKGROUND_WORDS, Rule, mask, segment
from eval.inference.settings import Inference

SMALL = {"size": 32, "window": 32, "stride": 16}


def test_a_given_threshold_decides_then_words_then_the_sigmoids_own():
    assert Rule.of(Inference(), ["cat"]) == Rule(0.4)
    assert Rule.of(Inference(threshold=0.7), ["cat"]) == Rule(0.7)
    assert Rule.of(Inference(probability="softmax"), ["cat"]) == Rule(None)
    words = Rule.of(Inference(background="words"), ["cat", " Grass"])
    assert words == Rule(None, tuple(word for word in BACKGROUND_WORDS if word != "grass"))
    both = Rule.of(Inference(background="words", threshold=0.5), ["cat"])
    assert both == Rule(0.5, BACKGROUND_WORDS)


def test_words_of_a_file_are_the_background(tmp_path):
    (tmp_path / "words").write_text("sky\ncat\n")
    rule = Rule.of(Inference(background=str(tmp_path / "words")), ["cat"])
    assert rule == Rule(None, ("sky",))
    with pytest.raises(UserError, match="no words but those that are asked for"):
        Rule.of(Inference(background=str(tmp_path / "words")), ["cat", "sky"])


def test_a_threshold_that_no_softmax_is_below_is_refused():
    with pytest.raises(UserError, match="softmax over 2 names"):
        Rule.of(Inference(probability="softmax", threshold=0.5), ["cat", "dog"])


def test_labels_are_the_most_similar_word_or_background(surgery):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8))
    inference = Inference(probability="softmax", clip_weight=0.0, **SMALL)
    every = segment(surgery, image, ["cat", "dog"], inference, Rule(None))
    assert every.similarities.shape == (2, 24, 40)
    assert every.labels.shape == (24, 40)
    agree = (every.similarities.argmax(0) == every.labels).mean()
    assert agree > 0.9  # patches decide for the one, pixels for the other
    none = segment(surgery, image, ["cat", "dog"], inference, Rule(1.0))
    assert (none.labels == 0).all()
    words = segment(surgery, image, ["cat", "dog"], inference, Rule(None, ("sky", "sea")))
    assert words.similarities.shape == (2, 24, 40)
    assert np.allclose(words.similarities, every.similarities, atol=1e-5)
    assert 0 < (words.labels == 0).mean() < 1


def test_a_mask_holds_the_labels_and_black_is_the_background():
    labels = np.array([[0, 1], [2, 0]], np.int16)
    image = mask(labels, ["background", "cat", "dog"], background=True)
    assert np.array_equal(np.array(image), labels)
    colours = np.array(image.convert("RGB"))
    assert (colours[labels == 0] == 0).all()
    assert (colours[labels == 1] != colours[labels == 2]).any()
