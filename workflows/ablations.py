"""The paper's ablations in the small world, over several seeds, with a plain sentence on each claim.

    python workflows/ablations.py                        # writes workflows/ABLATIONS.md
    python workflows/ablations.py --tables 4,6 --seeds 0,1,2 --out data/other --write other.md

Training and scores stay in `data/ablations`; a run that is there is not made again, so the same command
goes on where an earlier one was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from parsing.errors import UserError
from workflows.sizes import Sizes, add_training_flags, check_trainings, parse_seeds

TABLES = ("3", "4", "5", "6", "9", "referring")
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Settings:
    """What to run.

    Attributes:
        out: folder of everything.
        write: the Markdown file.
        tables: of `TABLES`.
        seeds: each setting is trained once with each.
        train, held_out: scenes.
        tuning: scenes on which scales and thresholds are chosen.
        world: which world it is.
        epochs: of each training; None takes `chain.TRAINING`'s.
    """

    out: str = "data/ablations"
    write: str = "workflows/ABLATIONS.md"
    tables: tuple[str, ...] = TABLES
    seeds: tuple[int, ...] = SEEDS
    train: int = 3000
    held_out: int = 300
    tuning: int = 100
    world: int = Sizes.world
    epochs: int | None = None

    def __post_init__(self) -> None:
        for table in self.tables:
            if table not in TABLES:
                raise UserError(f"--tables takes {', '.join(TABLES)}, not '{table}'")
        check_trainings(self.sizes, self.epochs, self.seeds)

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.train, self.held_out, self.tuning, self.world)

    @property
    def command(self) -> str:
        """What a person types for it."""
        flags = []
        if self.tables != TABLES:
            flags.append(f"--tables {','.join(self.tables)}")
        flags.append(f"--seeds {','.join(map(str, self.seeds))}")
        for name in ("train", "held_out", "tuning", "world", "epochs"):
            if getattr(self, name) != getattr(Settings, name):
                flags.append(f"--{name.replace('_', '-')} {getattr(self, name)}")
        return f"python workflows/ablations.py {' '.join(flags)}"


def run(settings: Settings) -> Path:
    """Trains and scores what is missing, a table at a time, and writes the tables.

    Returns:
        the Markdown file; it is written anew after every table.

    Raises:
        UserError: a stage failed.
    """
    from parsing.storage import Folder
    from workflows.ablation_tables import PLANS, document
    from workflows.chain import Chain

    chain = Chain(Path(settings.out), settings.sizes)
    chain.make_world()
    changes = () if settings.epochs is None else (("epochs", settings.epochs),)
    path = Path(settings.write)
    tables = []
    for name in settings.tables:
        tables.append(PLANS[name](chain, settings.seeds, changes))
        text = document(tables, chain, settings.command, settings.seeds)
        Folder(str(path.parent)).write(path.name, text.encode())
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for something the user can mend."""
    try:
        path = run(parse(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"\nthe tables are in {path}")
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
    add("--write", default=Settings.write, metavar="FILE", help="default %(default)s")
    add("--tables", default=",".join(TABLES), metavar="T,T,...", help="default %(default)s")
    add_training_flags(parser, SEEDS)
    values = vars(parser.parse_args(arguments))
    values["tables"] = tuple(values["tables"].split(","))
    values["seeds"] = parse_seeds(values["seeds"])
    return Settings(**values)


if __name__ == "__main__":
    sys.exit(main())
