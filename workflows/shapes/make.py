"""Writes the small world: captioned pictures, gold tags, a segmentation and a referring benchmark.

python workflows/shapes/make.py --out data/shapes --train 3000 --held-out 300 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from parsing.errors import UserError
from workflows.shapes.dataset import Settings, write_world


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Flags to settings.

    Raises:
        UserError: a setting that cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--train", type=int, default=Settings.train, help="captioned scenes")
    parser.add_argument(
        "--held-out", type=int, default=Settings.held_out, help="scenes of each benchmark"
    )
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--side", type=int, default=Settings.side, help="pixels of the pictures")
    return Settings(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        settings = parse(arguments)
        written = write_world(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"the small world is in {settings.out}" + ("" if written else " (it was already)"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
