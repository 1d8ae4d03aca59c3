"""The table at the end of a distillation: base model and student on captions that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from eval.parser_scores.answers import Answers, ask
from eval.parser_scores.gold import GoldFile, read_gold_files
from eval.parser_scores.report import as_table
from eval.parser_scores.scoreboard import Scoreboard
from parsing.distillation.examples import Examples
from parsing.distillation.settings import DistillSettings
from parsing.llm.models import Model, find_model
from parsing.llm.parser import LLMConfig

_RESAMPLES = 1000


def agreement(settings: DistillSettings, base: Model, sources: Sequence[Examples]) -> str:
    """Scores both models with the parser that runs use, engine and reader included.

    Returns:
        a block per source and test file, with 95% intervals.

    Raises:
        UserError: an engine does not start, or a test file can't be read.
    """
    golds = [_held_out(source) for source in sources] + read_gold_files(settings.test)
    models = {"base": base, "student": find_model(settings.output)}
    answers = [_ask(name, model, golds) for name, model in models.items()]
    boards = [
        Scoreboard.of(gold, own, _RESAMPLES, settings.seed)
        for gold, own in zip(golds, zip(*answers, strict=True), strict=True)
    ]
    return as_table(boards, _RESAMPLES)


def _held_out(source: Examples) -> GoldFile:
    kind = "gold" if source.fingerprint is None else "the teacher"
    return GoldFile(f"{source.name}, held out of {kind}", source.name, tuple(source.held_out))


def _ask(name: str, model: Model, golds: Sequence[GoldFile]) -> list[Answers]:
    config = LLMConfig(model=model, gpu=torch.cuda.is_available())
    return [replace(each, name=name) for each in ask(config, golds)]
