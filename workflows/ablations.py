"""The paper's ablations in the small world, over several seeds, with a verdict on each claim.

    python workflows/ablations.py                        # writes workflows/ABLATIONS.md
    python workflows/ablations.py --tables 4,6 --seeds 0,1,2 --out data/other --write other.md

Trainings and scores stay in `data/ablations`. What is there is not made again: the same command goes on
where an earlier one was stopped.
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
from workflows.command import comma_list, run_command
from workflows.sizes import Trainings

TABLES = ("3", "4", "5", "6", "9", "referring", "paths")


@dataclass(frozen=True)
class Settings(Trainings):
    """What to run.

    Raises:
        UserError: as `Trainings`, or an unknown table.
    """

    seeds: tuple[int, ...] = comma_list(
        (0, 1, 2, 3, 4), "each setting is trained once with each", int, metavar="S,S,..."
    )
    out: str = setting("data/ablations", "folder of everything", metavar="DIR")
    write: str = setting("workflows/ABLATIONS.md", "the Markdown file", metavar="FILE")
    tables: tuple[str, ...] = comma_list(
        TABLES, "tables of the paper, and `paths`, the image paths", metavar="T,T,..."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for table in self.tables:
            if table not in TABLES:
                raise UserError(f"--tables takes {', '.join(TABLES)}, not '{table}'")

    @property
    def command(self) -> str:
        """The command line that gives the same tables."""
        flags = []
        if self.tables != TABLES:
            flags.append(f"--tables {','.join(self.tables)}")
        flags.append(f"--seeds {','.join(map(str, self.seeds))}")
        for name in ("train", "held_out", "tuning", "world", "epochs"):
            if getattr(self, name) != getattr(Settings, name):
                flags.append(f"--{name.replace('_', '-')} {getattr(self, name)}")
        return f"python workflows/ablations.py {' '.join(flags)}"


def run(settings: Settings) -> Path:
    """Trains and scores what is missing, one table after the other, and writes the tables.

    Returns:
        the Markdown file; it is written anew after every table.

    Raises:
        UserError: a stage failed.
    """
    from common.storage import Folder
    from workflows.ablation_tables import PLANS, document
    from workflows.chain import Chain

    chain = Chain(Path(settings.out), settings.sizes)
    chain.make_world()
    path = Path(settings.write)
    tables = []
    for name in settings.tables:
        tables.append(PLANS[name](chain, settings.seeds, settings.changes))
        text = document(tables, chain, settings.command, settings.seeds)
        Folder(str(path.parent)).write(path.name, text.encode())
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""

    def work(settings: Settings) -> str:
        return f"\nthe tables are in {run(settings)}"

    return run_command(__doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
