"""What a comparison of parsers is asked to do, checked before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass

from common.errors import UserError
from parsing.parser import ParserConfig

PARSERS = ("nltk", "spacy", "tag2text", "llm")


@dataclass(frozen=True)
class Settings:
    """What is scored against what.

    Attributes:
        gold: files of gold tags, see `eval.parser_scores.gold`; each is scored apart.
        parsers: names from `PARSERS`, run in this process.
        tags: folders of tags that runs have written.
        tag_list: tags of the tag2text parser, one per line.
        model, prompt: of the LLM parser; None takes its defaults.
        limit: score only the first so many captions of each file.
        out: folder for `scores.json` and `parsers.html`.
        resamples, seed: of the bootstrap.
        shown: captions of each file on the page.

    Raises:
        UserError: a parser is unknown, a parser, folder or gold file is named twice, there is
            nothing to score, or a number is out of range.
    """

    gold: tuple[str, ...]
    parsers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tag_list: str | None = None
    model: str | None = None
    prompt: str | None = None
    limit: int | None = None
    out: str = "data/parsers"
    resamples: int = 1000
    seed: int = 0
    shown: int = 300

    def __post_init__(self) -> None:
        for name in self.parsers:
            if name not in PARSERS:
                raise UserError(f"there is no parser '{name}': choose from {', '.join(PARSERS)}")
        for names, what in ((self.parsers, "parser"), (self.tags, "folder")):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise UserError(f"the {what} {twice} is named twice")
        self._check_gold()
        if not self.parsers and not self.tags:
            raise UserError("nothing to score: name parsers with --parsers or folders with --tags")
        for flag, value, least in (
            ("--limit", self.limit, 1),
            ("--resamples", self.resamples, 1),
            ("--shown", self.shown, 0),
        ):
            if value is not None and value < least:
                raise UserError(f"{flag} must be at least {least}, not {value}")

    def _check_gold(self) -> None:
        if not self.gold:
            raise UserError("nothing to score against: name gold files with --gold")
        places: dict[str, str] = {}
        for path in self.gold:
            place = os.path.realpath(path)
            if place in places:
                other = "" if places[place] == path else f", once as {places[place]}"
                raise UserError(f"the gold file {path} is named twice{other}")
            places[place] = path

    def configs(self) -> list[ParserConfig]:
        """The parsers' configurations, checked.

        Raises:
            UserError: what one of them needs is missing.
        """
        configs = [self._config(name) for name in self.parsers]
        for config in configs:
            config.check()
        return configs

    def _config(self, name: str) -> ParserConfig:
        if name == "nltk":
            from parsing.baselines.nltk_parser import NltkConfig

            return NltkConfig()
        if name == "spacy":
            from parsing.baselines.spacy_parser import SpacyConfig

            return SpacyConfig()
        if name == "tag2text":
            from parsing.baselines.tag2text_parser import Tag2TextConfig

            return Tag2TextConfig(tag_list=self.tag_list)
        import torch

        from parsing.llm.models import find_model
        from parsing.llm.parser import LLMConfig

        given = {} if self.prompt is None else {"prompt": self.prompt}
        if self.model is not None:
            given["model"] = find_model(self.model)
        return LLMConfig(gpu=torch.cuda.is_available(), **given)
