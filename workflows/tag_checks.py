"""Tags before and after the check against pictures, in a small world whose captions name absent things.

    python workflows/tag_checks.py                                    # writes the table of tags
    python workflows/tag_checks.py --seeds 0,1,2,3,4 --trained nltk   # and trains on checked, soft and unchecked tags

The truth is what each scene shows, in every word of this world for it. Recall is of the tags that the caption
says and the scene shows. The parsers run in this process, since three thousand captions need no cluster.
Everything stays in --out, and what is there is not made again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import setting
from workflows.command import at_least, comma_list, run_command

SAID = "said"  # the tags that captions were written from, those of absent things among them
PARSERS = (SAID, "nltk", "spacy", "tag2text")


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
    parsers: tuple[str, ...] = comma_list(PARSERS, "whose tags are checked", metavar="P,P,...")
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


def run(settings: Settings) -> Path:
    """Makes what is missing and writes the tables.

    Returns:
        the Markdown file.

    Raises:
        UserError: a stage failed.
    """
    from common.storage import Folder
    from workflows.tag_check_tables import document
    from workflows.tag_check_world import CheckedWorld

    world = CheckedWorld(settings)
    world.make()
    tables = [(parser, *world.scores(parser)) for parser in settings.parsers]
    trained = world.trainings() if settings.seeds else []
    path = Path(settings.write or f"{settings.out}/tables.md")
    Folder(str(path.parent)).write(
        path.name, document(settings.command, settings.world, tables, trained).encode()
    )
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""

    def work(settings: Settings) -> str:
        return f"the tables are in {run(settings)}"

    return run_command(__doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
