"""Settings of a comparison of parsers, validated before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass

from common.errors import UserError
from common.flags import comma_separated, setting
from parsing.choice import ParserChoice
from parsing.llm import student
from parsing.parser import ParserConfig

PARSERS = ("nltk", "spacy", "tag2text", "llm")


@dataclass(frozen=True)
class Settings:
    """Settings of `eval/parsers.py`; every field is a flag of the same name.

    Raises:
        UserError: a parser is unknown; a parser, folder or gold file is named twice; there is nothing
            to score; or a number is out of its range.
    """

    gold: tuple[str, ...] = setting(
        (),
        "FACTUAL's .csv, or .jsonl with caption, objects, attributes and optionally maybe and "
        "maybe_attributes; repeat for several, each is scored separately",
        action="append",
        metavar="FILE",
    )
    parsers: tuple[str, ...] = setting(
        (),
        f"parsers to run here, comma-separated, of {', '.join(PARSERS)}",
        nargs=None,
        type=comma_separated,
        metavar="NAMES",
    )
    tags: tuple[str, ...] = setting(
        (),
        "folder that parsing/run.py has written; repeat for several",
        action="append",
        metavar="DIR",
    )
    tag_list: str | None = setting(None, "for tag2text: one tag per line", metavar="FILE")
    model: str | None = setting(
        None, "for llm: a preset, a hub id or a local folder", metavar="NAME"
    )
    prompt: str | None = setting(
        None, "for llm: a prompt in prompts/, or a YAML file", metavar="NAME"
    )
    constraint: str | None = setting(
        None,
        "for llm: as in parsing/run.py; default depends on the model",
        choices=("none", "words"),
    )
    limit: int | None = setting(
        None, "score only the first N captions of each gold file", metavar="N"
    )
    out: str = setting("data/parsers", "folder for scores.json and parsers.html", metavar="DIR")
    resamples: int = setting(1000, "bootstrap samples for the intervals", metavar="N")
    seed: int = setting(0, "seed of the bootstrap samples", metavar="N")
    shown: int = setting(300, "captions of each gold file on the page", metavar="N")

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
        import torch

        return ParserChoice(
            parser=name,
            model=self.model or student.NAME,
            prompt=self.prompt,
            constraint=self.constraint,
            tag_list=self.tag_list,
        ).config(torch.cuda.is_available)
