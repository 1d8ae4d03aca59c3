"""Scores parsers, or folders of tags, against gold tags: tables, a JSON file and an HTML page.

    python eval/parsers.py --gold web_dev.jsonl --gold factual_dev.csv --parsers nltk,spacy,llm
    python eval/parsers.py --gold gold.jsonl --tags data/tags --tags data/tags-nltk

The page shows for each caption which tags were right, wrong and missed (the paper's Figure 4).
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
from common.storage import Folder
from eval.parser_scores.page import page
from eval.parser_scores.report import as_json, as_table
from eval.parser_scores.scoreboard import judge
from eval.parser_scores.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    try:
        settings = parse_flags(arguments)
        out = Folder(settings.out)
        boards = judge(settings)
        print(as_table(boards, settings.resamples))  # before writing, which may fail on a full disk
        out.make()
        out.write_json("scores.json", as_json(boards, settings.resamples, settings.seed))
        out.write("parsers.html", page(boards, settings.shown).encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"\npage: {out.path('parsers.html')}\nscores: {out.path('scores.json')}")
    return 0


def parse_flags(arguments: Sequence[str] | None = None) -> Settings:
    """Settings from the command line.

    Raises:
        UserError: as `Settings`.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser, Settings)
    return Settings(**given(parser.parse_args(arguments), Settings))


if __name__ == "__main__":
    sys.exit(main())
