"""Writes the small world: captioned pictures, gold tags, a segmentation and a referring benchmark.

python workflows/shapes/make.py --out data/shapes --train 3000 --held-out 300 --seed 0
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from workflows.command import run_command
from workflows.shapes.dataset import Settings, write_world


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""

    def work(settings: Settings) -> str:
        written = write_world(settings)
        return f"the small world is in {settings.out}{'' if written else ' (it was already)'}"

    return run_command(
        __doc__, Settings, work, arguments, stopped="stopped; nothing is left behind"
    )


if __name__ == "__main__":
    sys.exit(main())
