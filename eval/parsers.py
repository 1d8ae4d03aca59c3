"""Scores parsers, or folders of tags, against gold tags: tables, a JSON file and a page to read.

    python eval/parsers.py --gold web_dev.jsonl --gold factual_dev.csv --parsers nltk,spacy,llm
    python eval/parsers.py --gold gold.jsonl --tags data/tags --tags data/tags-nltk

The page shows caption by caption what each got right, wrong and missed (the paper's Figure 4).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `eval` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.storage import Folder
from eval.parser_scores.page import page
from eval.parser_scores.report import as_json, as_table
from eval.parser_scores.scoreboard import judge
from eval.parser_scores.settings import PARSERS, Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    try:
        settings = parse_flags(arguments)
        out = Folder(settings.out)
        boards = judge(settings)
        print(as_table(settings, boards))  # first: a full disk doesn't take it away
        out.make()
        out.write_json("scores.json", as_json(settings, boards))
        out.write("parsers.html", page(settings, boards).encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"\ncaption by caption: {out.path('parsers.html')}\nas data: {out.path('scores.json')}")
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
    add = parser.add_argument
    add(
        "--gold",
        action="append",
        required=True,
        metavar="FILE",
        help="FACTUAL's .csv, or .jsonl with caption, objects, attributes and perhaps maybe, "
        "maybe_attributes; repeat for several, each scored apart",
    )
    add("--parsers", default="", metavar="NAMES", help=f"comma-separated, of {', '.join(PARSERS)}")
    add(
        "--tags",
        action="append",
        default=[],
        metavar="DIR",
        help="folder that parsing/run.py has written; repeat for several",
    )
    add("--tag-list", metavar="FILE", help="for tag2text: one tag per line")
    add("--model", metavar="NAME", help="for llm: a preset, a hub id or a local folder")
    add("--prompt", metavar="NAME", help="for llm: a prompt in prompts/, or a YAML file")
    add("--limit", type=int, metavar="N", help="score only the first N of each file")
    add("--out", default=Settings.out, metavar="DIR", help="default %(default)s")
    add(
        "--resamples",
        type=int,
        default=Settings.resamples,
        metavar="N",
        help="bootstrap draws; default %(default)s",
    )
    add(
        "--seed",
        type=int,
        default=Settings.seed,
        metavar="N",
        help="of the draws; default %(default)s",
    )
    add(
        "--shown",
        type=int,
        default=Settings.shown,
        metavar="N",
        help="captions of each file on the page; default %(default)s",
    )
    flags = parser.parse_args(arguments)
    given = vars(flags) | {
        "gold": tuple(flags.gold),
        "parsers": tuple(name.strip() for name in flags.parsers.split(",") if name.strip()),
        "tags": tuple(flags.tags),
    }
    return Settings(**given)


if __name__ == "__main__":
    sys.exit(main())
