r"""Writes tags and labels as a data set for Hugging Face's hub: Parquet shards and a card, in a folder.

    python workflows/publish.py --tags data/tags --labels labels/cc12m_obj_attr.parquet --to data/published/cc12m-tags \
        --source "CC12M" --licence other
    python workflows/publish.py --tags data/tags --repo ME/cc12m-tags --scores data/parsers/scores.json

`datasets.load_dataset(FOLDER)` opens it. With --repo it is also uploaded, if there is a token (`hf auth login`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Imports start at the repository, so that nothing needs to be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import add_flags, given
from workflows.publishing.data_set import PublishSettings, write_data_set
from workflows.publishing.upload import upload


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser, PublishSettings)
    flags = parser.parse_args(arguments)
    try:
        settings = PublishSettings(**given(flags, PublishSettings))
        folder = write_data_set(settings)
        print(f"data set: {folder}\nopen it: datasets.load_dataset({str(folder)!r})")
        if settings.repo:
            print(upload(folder, settings.repo, settings.private))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
