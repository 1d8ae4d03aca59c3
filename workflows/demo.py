"""The whole chain in the small world, and a report of it: `make demo`.

    python workflows/demo.py                     # captions to mIoU, about eight minutes on two cores
    python workflows/demo.py --train 300 --epochs 2 --seeds 0 --parsers nltk     # a minute, to see it run

The captions have the faults of real ones, the LLM and the CLIP are real (and small), the pictures are
drawn. A stage whose output is there is skipped: the same command goes on where an earlier one was stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import setting
from workflows.command import comma_list, run_command
from workflows.sizes import Trainings

PARSERS = ("llm", "nltk", "spacy", "tag2text")
REPORT, PICTURE = "report.html", "result.png"


@dataclass(frozen=True)
class Settings(Trainings):
    """What to run.

    Each seed is one training on objects, one on objects and attributes, and one without tags. A parser
    that cannot run here (NLTK without its data and without a network) is left out of the report, unless
    it is the first one.

    Raises:
        UserError: as `Trainings`, or a parser that is unknown or named twice.
    """

    out: str = setting(
        "data/demo", f"folder of everything; {REPORT} and {PICTURE} are its results", metavar="DIR"
    )
    parsers: tuple[str, ...] = comma_list(
        PARSERS, "parsers of the report; the first one's tags are trained on", metavar="P,P,..."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for parser in self.parsers:
            if parser not in PARSERS:
                raise UserError(f"--parsers takes {', '.join(PARSERS)}, not '{parser}'")
        if not self.parsers or len(set(self.parsers)) < len(self.parsers):
            raise UserError("--parsers names one parser at least, and none twice")


def demo(settings: Settings) -> Path:
    """Runs the stages of the chain and writes the report.

    Returns:
        the report's path.

    Raises:
        UserError: a stage failed.
    """
    from common.storage import Folder
    from eval.pictures import save_picture
    from labels.settings import BOTH
    from labels.vocabulary import OBJECT
    from workflows.chain import Chain, Recipe
    from workflows.report import Trained, report

    chain = Chain(Path(settings.out), settings.sizes)
    chain.make_world()
    parsers = [parser for parser in settings.parsers if _can_run(parser, settings.parsers[0])]
    for parser in parsers:
        chain.tags(parser)
    groups = []
    for kinds, title in ((OBJECT, "TagAlign (objects)"), (BOTH, "TagAlign (objects + attributes)")):
        recipes = [
            Recipe(settings.parsers[0], kinds, changes=settings.changes, seed=seed)
            for seed in settings.seeds
        ]
        runs = [str(chain.run(recipe)) for recipe in recipes]
        groups.append(Trained(title, chain.labels(recipes[0]), runs))
    no_tags = (*settings.changes, ("tag_weight", 0.0))
    untagged = [str(chain.run(replace(recipe, changes=no_tags))) for recipe in recipes]
    control = Trained("image-text loss alone", groups[-1].labels, untagged)
    checked = chain.check(recipes[0])
    page, picture = report(chain, parsers, groups, control, checked)
    folder = Folder(settings.out)
    save_picture(picture, folder, PICTURE)
    folder.write(REPORT, page.encode())
    return Path(settings.out) / REPORT


def _can_run(parser: str, first: str) -> bool:
    """Whether a parser's data is at hand; NLTK's is downloaded where there is a network.

    Raises:
        UserError: it is not, and the parser is the first.
    """
    if parser != "nltk":
        return True
    from parsing.baselines.nltk_parser import NltkConfig

    try:
        NltkConfig().check()
    except UserError as error:
        if parser == first:
            raise
        print(f"\nnltk is left out of the comparison: {error}")
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""

    def work(settings: Settings) -> str:
        return f"\nthe report is in {demo(settings)}: open it in a browser"

    return run_command(__doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
