"""Counts tags, keeps the most frequent ones, and labels every image with them.

    python labels/build_vocab.py --k 10000
    python labels/build_vocab.py --tags runs/a --tags runs/b --out labels/mine.parquet --k 5000
    python labels/build_vocab.py --ks 2500,7500,10000,25000,50000,100000     # the paper's Table 3

labels/README.md describes the files.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `labels` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import add_flags, given
from labels.build import build
from labels.settings import Settings
from labels.workspace import Workspace


def main(arguments: Sequence[str] | None = None, workspace: Workspace | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    flags = parse_flags(arguments)
    try:
        summary, _ = build(
            Settings(**given(flags, Settings)),
            lambda sentence: print(f"note: {sentence}", file=sys.stderr),
            workspace,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was changed", file=sys.stderr)
        return 130
    print(summary)
    return 0


def parse_flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser, Settings)
    return parser.parse_args(arguments)


def _end_at_once(workspace: Workspace) -> None:
    """Deletes what this process has not finished and ends it without waiting for its threads.

    An exception would wait for the threads to end, and inside an import they would wait for it.
    """
    if workspace.abandon():
        os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    own = Workspace()
    signal.signal(signal.SIGTERM, lambda *_: _end_at_once(own))
    sys.exit(main(workspace=own))
