"""The whole chain in the small world, and a report of it: `make demo`.

    python workflows/demo.py                     # captions to mIoU, about ten minutes on two cores
    python workflows/demo.py --train 300 --epochs 2 --seeds 0 --parsers nltk     # a minute, to see it run

Real captions' mistakes, a real LLM, a real (small) CLIP: only the world is small. A stage whose output
is there is skipped, so the same command goes on where an earlier one was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from parsing.errors import UserError
from workflows.sizes import Sizes, add_training_flags, check_trainings, parse_seeds

PARSERS = ("llm", "nltk", "spacy", "tag2text")
REPORT, PICTURE = "report.html", "result.png"


@dataclass(frozen=True)
class Settings:
    """What to run.

    Attributes:
        out: folder of everything; `report.html` and `result.png` in it are the end of it.
        train, held_out: scenes.
        tuning: scenes on which scales and thresholds are chosen.
        world: which world it is.
        epochs: of each training; None takes `chain.TRAINING`'s.
        seeds: one training each: on objects, on objects and attributes, and without tags.
        parsers: whose tags the report compares; the first one's are trained on. One that cannot run
            here (NLTK without its data and without a network) is left out, but not the first.
    """

    out: str = "data/demo"
    train: int = 3000
    held_out: int = 300
    tuning: int = 100
    world: int = Sizes.world
    epochs: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    parsers: tuple[str, ...] = field(default=PARSERS)

    def __post_init__(self) -> None:
        check_trainings(self.sizes, self.epochs, self.seeds)
        for parser in self.parsers:
            if parser not in PARSERS:
                raise UserError(f"--parsers takes {', '.join(PARSERS)}, not '{parser}'")
        if not self.parsers or len(set(self.parsers)) < len(self.parsers):
            raise UserError("--parsers names one parser at least, and none twice")

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.train, self.held_out, self.tuning, self.world)


def demo(settings: Settings) -> Path:
    """Goes along the chain and writes the report.

    Returns:
        the report's path.

    Raises:
        UserError: a stage failed.
    """
    from eval.overlays import save_picture
    from labels.build import BOTH
    from labels.vocabulary import OBJECT
    from parsing.storage import Folder
    from workflows.chain import Chain, Recipe
    from workflows.report import Trained, report

    chain = Chain(Path(settings.out), settings.sizes)
    chain.make_world()
    parsers = [parser for parser in settings.parsers if _can_run(parser, settings.parsers[0])]
    for parser in parsers:
        chain.tags(parser)
    changes = () if settings.epochs is None else (("epochs", settings.epochs),)
    groups = []
    for kinds, title in ((OBJECT, "TagAlign (objects)"), (BOTH, "TagAlign (objects + attributes)")):
        recipes = [
            Recipe(settings.parsers[0], kinds, changes=changes, seed=seed)
            for seed in settings.seeds
        ]
        runs = [str(chain.run(recipe)) for recipe in recipes]
        groups.append(Trained(title, chain.labels(recipes[0]), runs))
    untagged = [replace(recipe, changes=(*changes, ("tag_weight", 0.0))) for recipe in recipes]
    control = Trained(
        "image-text loss alone", groups[-1].labels, [str(chain.run(one)) for one in untagged]
    )
    page, picture = report(chain, parsers, groups, control)
    folder = Folder(settings.out)
    save_picture(picture, folder, PICTURE)
    folder.write(REPORT, page.encode())
    return Path(settings.out) / REPORT


def _can_run(parser: str, first: str) -> bool:
    """Whether a parser's data is at hand; NLTK's is fetched where there is a network.

    Raises:
        UserError: it is not, and the parser is the first.
    """
    if parser != "nltk":
        return True
    from parsing.nltk_parser import NltkConfig

    try:
        NltkConfig().check()
    except UserError as error:
        if parser == first:
            raise
        print(f"\nnltk is left out of the comparison: {error}")
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for something the user can mend."""
    try:
        path = demo(parse(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"\nthe report is in {path}: open it in a browser")
    return 0


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Flags to settings.

    Raises:
        UserError: a setting that cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", default=Settings.out, metavar="DIR", help="default %(default)s")
    add_training_flags(parser, Settings.seeds)
    add("--parsers", default=",".join(PARSERS), metavar="P,P,...", help="default %(default)s")
    values = vars(parser.parse_args(arguments))
    values["seeds"] = parse_seeds(values["seeds"])
    values["parsers"] = tuple(values["parsers"].split(","))
    return Settings(**values)


if __name__ == "__main__":
    sys.exit(main())
