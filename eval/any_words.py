"""Segments one picture by any words, for `show.py` and its page.

Shapes: n words; H, W height and width of the picture in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from eval.datasets.class_names import THRESHOLD, WORDS
from eval.inference.class_embeddings import class_embeddings
from eval.inference.segmenter import Segmenter
from eval.inference.settings import THRESHOLDS, Inference
from eval.pictures import palette
from labels.tag_lists import read_tag_list
from training.dense import Dense

# Words for the rest of a picture, for `--background words`.
BACKGROUND_WORDS = (
    *("background", "sky", "cloud", "wall", "floor", "ground", "grass", "tree", "road", "water"),
    *("sea", "mountain", "building", "window", "curtain", "fence", "table"),
)


@dataclass(frozen=True)
class Rule:
    """What is background.

    Attributes:
        threshold: a pixel is background where no word's probability (Eq. 8) reaches it; None if there is
            no threshold.
        words: a pixel is background where one of these is more probable than all words asked for.
    """

    threshold: float | None
    words: tuple[str, ...] = ()

    @property
    def has_background(self) -> bool:
        return self.threshold is not None or bool(self.words)

    @classmethod
    def of(cls, inference: Inference, asked: Sequence[str]) -> Rule:
        """The rule that follows from the settings and the words.

        A given threshold is used. Without one, `--background words` or a file of words decides, otherwise
        the default threshold of Eq. 8's sigmoid form; the softmax form then has no background.

        Raises:
            UserError: a threshold that no probability is below, or a file of words that cannot be read.
        """
        words = _background_words(inference.background, asked)
        threshold = inference.threshold
        if threshold is None and not words:
            threshold = THRESHOLDS.get(inference.probability)
        if threshold is not None and not words:
            inference.check_threshold(threshold, len(asked))
        return cls(threshold, words)


def _background_words(background: str, asked: Sequence[str]) -> tuple[str, ...]:
    if background == THRESHOLD:
        return ()
    words = BACKGROUND_WORDS if background == WORDS else tuple(read_tag_list(background))
    own = {text.strip().lower() for text in asked}
    left = tuple(word for word in words if word.lower() not in own)
    if not left:
        raise UserError(f"{background} (--background) holds no words but those that are asked for")
    return left


@dataclass(frozen=True)
class Segmented:
    """What one model finds in a picture.

    Attributes:
        similarities: cosines of Eq. 7, float32 of shape (n, H, W).
        labels: int16 of shape (H, W): the word of each pixel from 0, or from 1 where 0 is background.
    """

    similarities: np.ndarray
    labels: np.ndarray


def segment(
    dense: Dense, image: Image.Image, asked: Sequence[str], inference: Inference, rule: Rule
) -> Segmented:
    """Finds words in a picture.

    Args:
        dense: a run or a baseline.
        image: RGB.
        asked: n words or phrases.
        inference: the settings.
        rule: see `Rule.of`.

    Raises:
        UserError: as `Segmenter`.
    """
    names = (*asked, *rule.words)
    owners = (*range(len(asked)), *(-1 for _ in rule.words))
    embeddings = class_embeddings(dense, names, inference.templates)
    segmenter = Segmenter(dense, embeddings, inference, rule.threshold, owners)
    return Segmented(segmenter.similarities(image), segmenter.label_maps([image])[0])


def mask(labels: np.ndarray, names: Sequence[str], background: bool) -> Image.Image:
    """Labels as a palette image: a pixel's value is its word's number, in the overlay's colours.

    Args:
        labels: integers of shape (H, W).
        names: of all labels, at most 256.
        background: whether label 0 is background, which is black.
    """
    colours = palette(len(names))
    if background:
        colours[0] = 0
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(colours.tobytes())
    return image


def file_name(name: str) -> str:
    """The name of a model as a file name."""
    return Path(name).name.replace(" ", "_") or "model"
