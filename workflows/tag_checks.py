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
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from workflows.command import run_command
from workflows.tag_check_settings import Settings


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
