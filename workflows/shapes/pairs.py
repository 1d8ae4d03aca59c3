"""Pictures and captions to train on, drawn batch by batch.

Contrastive training learns whatever separates pairs most easily. Where captions mention colours and grounds,
it learns those and not shapes. So most captions here name things only, and in most batches all scenes
have one ground, one colour or both. At first things are alone in small pictures, which stand for a part of a
whole one: they cost less, and the thing fills most of them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from workflows.shapes.captions import Manner, write_caption
from workflows.shapes.drawing import Painter
from workflows.shapes.tokenizer import CONTEXT
from workflows.shapes.world import COLOURS, GROUNDS, TEXTURES, Choice, draw_scene


@dataclass(frozen=True)
class Lesson:
    """A phase of the training.

    Attributes:
        until: share of the training at which it ends.
        side: pixels of the pictures; sizes of things are shares of it, so that a large thing of a small
            picture is a medium one of a whole picture.
        choice, manner: of scenes and captions.
        one_ground, one_colour: probabilities that a batch has only one.
    """

    until: float
    side: int
    choice: Choice
    manner: Manner
    one_ground: float
    one_colour: float


_QUIET = Manner(
    colour=0.08, texture=0.08, size=0.08, place=0.08, omitted=0.0, web=0.3, predicate=0.05
)
LESSONS = (
    Lesson(
        0.25, 40,
        Choice(counts=(1,), sizes=("large",), textures=("plain",) * 6 + TEXTURES[1:]),
        _QUIET, 0.7, 0.5,
    ),
    Lesson(
        0.5, 48,
        Choice(counts=(1, 2, 2), sizes=("medium", "large", "large")),
        replace(_QUIET, colour=0.2, texture=0.15, place=0.25, omitted=0.1), 0.5, 0.4,
    ),
    Lesson(
        1.0, 64,
        Choice(),
        Manner(colour=0.35, texture=0.35, size=0.3, place=0.4, omitted=0.15, web=0.5), 0.3, 0.25,
    ),
)  # fmt: skip


class Pairs(Dataset):
    """Item i is the batch of step i, which follows from seed and step alone.

    It holds pictures, uint8 (n, side, side, 3), tokens, int64 (n, context), and the place (top, left) of
    these pictures in a whole one, each from 0 to 1. A training that is resumed sees the same batches.

    Args:
        tokenizer: see there.
        seed: of all scenes and captions.
        size: pairs in a batch.
        steps: of the whole training.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, size: int, steps: int):
        self.tokenizer, self.seed, self.size, self.steps = tokenizer, seed, size, steps
        self.painters: dict[int, Painter] = {}

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, tuple[float, float]]:
        rng = random.Random(f"{self.seed} pretraining {step}")
        lesson = next(one for one in LESSONS if (step + 1) / self.steps <= one.until)
        choice = lesson.choice
        if rng.random() < lesson.one_ground:
            choice = replace(choice, grounds=(rng.choice(GROUNDS),))
        if rng.random() < lesson.one_colour:
            choice = replace(choice, colours=(rng.choice(tuple(COLOURS)),))
        scenes = [draw_scene(rng, choice) for _ in range(self.size)]
        captions = [write_caption(scene, rng, lesson.manner).text for scene in scenes]
        painter = self.painters.setdefault(lesson.side, Painter(lesson.side))
        pictures = np.stack([painter.draw(scene)[0] for scene in scenes])
        corner = rng.random(), rng.random()
        return torch.from_numpy(pictures), tokenize(self.tokenizer, captions), corner

    def __getstate__(self) -> dict:
        return self.__dict__ | {"painters": {}}  # caches of sprites are not sent to workers


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """As open_clip's HFTokenizer does: int64 of shape (n, CONTEXT)."""
    encoded = tokenizer(
        texts, return_tensors="pt", max_length=CONTEXT, padding="max_length", truncation=True
    )
    return encoded.input_ids
