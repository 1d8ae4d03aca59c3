r"""Reads the tags that others have released into a tag folder, as if they were parsed here.

    python labels/import_tags.py --tags CC12M_url_object_index.json --tag-list object_list.csv \
        --captions cc12m.tsv --out data/tags-authors
    python labels/import_tags.py --tags cc12m_ram.json --tag-list ram_tag_list.txt --out data/tags-ram
    python labels/import_tags.py --tags mine.jsonl --out data/tags-mine        # key, tags

`labels/build_vocab.py --tags DIR` then counts and labels them. labels/README.md describes the formats.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `labels` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import add_flags, given
from labels.tag_import import ImportSettings, import_tags


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser, ImportSettings)
    flags = parser.parse_args(arguments)
    try:
        settings = ImportSettings(**given(flags, ImportSettings))
        counts = import_tags(settings, lambda sentence: print(f"note: {sentence}", file=sys.stderr))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    print(
        f"images       {counts.images:>14,}\ntags         {counts.tags:>14,}  "
        f"({counts.tags / max(counts.images, 1):.2f} an image)\n"
        f"with caption {counts.with_caption:>14,}\nwrote {settings.out}\n"
        f"next: python labels/build_vocab.py --tags {settings.out} --out labels/NAME.parquet"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
