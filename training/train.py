r"""Trains a projector on labelled images.

    python training/train.py --labels labels/cc12m_obj_attr.parquet --images data/cc12m
    torchrun --nproc-per-node 8 training/train.py --labels labels/cc12m_obj_attr.parquet --images data/cc12m

On the features that `training/check_tags.py --features` kept, without pictures:

    python training/train.py --labels labels/cc12m_seen.parquet --features data/features

On a laptop, with a small model and a few images:

    python training/train.py --labels labels/mine.parquet --images my/photos \
        --model ViT-B-32 --weights openai --batch-size 64 --epochs 2
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `training` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import add_flags, given
from training.protocols import values_of
from training.settings import GROUPS, Settings


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Settings from the command line.

    Raises:
        UserError: as `Settings`.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_flags(first, Settings, ("protocol", "features"))
    first.add_argument("--epochs", default=argparse.SUPPRESS)
    known = first.parse_known_args(arguments)[0]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = values_of(known.protocol, vars(known))
    for title, names in GROUPS.items():
        add_flags(parser.add_argument_group(title), Settings, names, defaults)
    return Settings(**given(parser.parse_args(arguments), Settings))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    try:
        settings = parse(arguments)
        from training.trainer import train  # slow to import

        folder = train(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if os.environ.get("RANK", "0") == "0":
        print(f"the run is in {folder.url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
