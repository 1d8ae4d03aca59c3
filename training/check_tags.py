r"""Scores how well the pictures confirm the tags of a label file, and drops the tags that they do not confirm.

    python training/check_tags.py --labels labels/cc12m_obj_attr.parquet --images data/cc12m --out labels/cc12m_seen.parquet
    torchrun --nproc-per-node 8 -- training/check_tags.py --labels ... --images ... --out ...

A label file goes in, and one of the same form comes out, with a score beside each tag. The same command goes
on after a kill. Another --keep uses the measurements in OUT.check, and does not read the pictures again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `training` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import add_flags, given
from training.tag_check.settings import Settings


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Settings from the command line.

    Raises:
        UserError: as `Settings`.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser, Settings)
    return Settings(**given(parser.parse_args(arguments), Settings))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    try:
        settings = parse(arguments)
        from training.tag_check.check import check_tags, summary  # slow to import

        checked = check_tags(settings)
        if checked is not None and settings.page:
            from common.storage import Folder
            from training.tag_check.page import page

            name = Path(settings.out).name.replace(".parquet", ".html")
            Folder(Path(settings.out).parent).write(name, page(checked).encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if checked is not None:
        print(summary(settings, checked.counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
