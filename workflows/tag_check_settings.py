"""The settings of `tag_checks.py`."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import UserError
from common.flags import setting
from workflows.command import at_least, comma_list

SAID = "said"  # the tags that captions were written from, those of absent things among them
LLM = "llm"  # the student that ships, on the engine
PARSERS = (SAID, LLM, "nltk", "spacy", "tag2text")
WITHOUT_ENGINE = tuple(parser for parser in PARSERS if parser != LLM)


@dataclass(frozen=True)
class Settings:
    """What to run.

    Raises:
        UserError: an unknown parser, or a number out of its range.
    """

    out: str = setting("data/tag-checks", "folder of everything", metavar="DIR")
    write: str = setting("", "Markdown file for the tables; default OUT/tables.md", metavar="FILE")
    train: int = setting(3000, "captioned scenes", metavar="N")
    held_out: int = setting(300, "scenes of each benchmark", metavar="N")
    tuning: int = setting(100, "scenes on which scales and thresholds are chosen", metavar="N")
    world: int = setting(20, "number of the world; nothing was chosen in 20 and later", metavar="N")
    absent: float = setting(0.33, "share of captions that name absent things", metavar="X")
    parsers: tuple[str, ...] = comma_list(
        WITHOUT_ENGINE, f"whose tags are checked, of {', '.join(PARSERS)}", metavar="P,P,..."
    )
    trained: str = setting("nltk", "whose tags are trained on", choices=PARSERS)
    evidence: str = setting("both", "as in training/check_tags.py", metavar="NAME")
    pool: str = setting("max", "as in training/check_tags.py", metavar="NAME")
    attributes: str = setting("object", "as in training/check_tags.py", metavar="NAME")
    keep: str = setting("0.4", "as in training/check_tags.py", metavar="X")
    seeds: tuple[int, ...] = comma_list(
        (), "each way of training is done once with each; none trains nothing", int, metavar="S,S"
    )

    def __post_init__(self) -> None:
        at_least(self, train=1, held_out=1, tuning=1, world=0)
        for parser in (*self.parsers, self.trained):
            if parser not in PARSERS:
                raise UserError(f"--parsers takes {', '.join(PARSERS)}, not '{parser}'")
        if self.seeds and self.trained not in self.parsers:
            raise UserError(f"--trained {self.trained} is none of --parsers")

    @property
    def command(self) -> str:
        """The command line that gives the same tables."""
        flags = []
        for name in (
            "train",
            "held_out",
            "tuning",
            "world",
            "absent",
            "trained",
            "evidence",
            "pool",
            "attributes",
            "keep",
        ):
            if getattr(self, name) != getattr(Settings, name):
                flags.append(f"--{name.replace('_', '-')} {getattr(self, name)}")
        for name in ("parsers", "seeds"):
            if getattr(self, name) != getattr(Settings, name):
                flags.append(f"--{name} {','.join(map(str, getattr(self, name)))}")
        return " ".join(["python workflows/tag_checks.py", *flags])
