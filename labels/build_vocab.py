"""Tags to a vocabulary and sparse labels.

python labels/build_vocab.py --k 10000
python labels/build_vocab.py --tags runs/a --tags runs/b --out labels/mine.parquet --k 5000
python labels/build_vocab.py --ks 2500,7500,10000,25000,50000,100000     # the paper's Table 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `labels` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from labels.build import BOTH, DEFAULT_K, DEFAULT_OUT, DEFAULT_TAGS, Settings, build
from labels.vocabulary import KINDS
from parsing.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for something the user can mend."""
    flags = vars(parse_flags(arguments))
    ray = flags.pop("ray")
    tags = tuple(name for names in flags.pop("tags") or [[DEFAULT_TAGS]] for name in names)
    try:
        settings = Settings(**flags, tags=tags, ray=ray is not None, address=ray or None)
        summary, _ = build(
            settings, note=lambda sentence: print(f"note: {sentence}", file=sys.stderr)
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
        description="Counts tags, keeps the most frequent, and labels every image with them.",
        epilog="labels/README.md describes the files.",
    )
    add = parser.add_argument
    tags_help = f"tags folder of a run, or Parquet files; may be repeated (default {DEFAULT_TAGS})"
    add("--tags", action="append", nargs="+", metavar="DIR", help=tags_help)
    add("--out", default=DEFAULT_OUT, metavar="FILE", help="label file (default %(default)s)")
    k_help = f"tags of each kind to keep (default {DEFAULT_K})"
    add("--k", type=int, metavar="K", help=k_help)
    add("--k-objects", type=int, metavar="K", help="objects to keep, in place of --k")
    add("--k-attributes", type=int, metavar="K", help="attributes to keep, in place of --k")
    ks_help = "several K, each with its own label file FILE.kK.parquet, from one pass"
    add("--ks", type=_numbers, default=(), metavar="K,K,...", help=ks_help)
    add("--kinds", choices=[*KINDS, BOTH], help=f"kinds of tags to keep (default {BOTH})")
    add("--min-count", type=int, default=1, metavar="N", help="leave out tags of fewer captions")
    add("--stop-tags", metavar="FILE", help="tags to leave out, one a line")
    add("--synonyms", metavar="FILE", help="tag<TAB>tag to count it as, one pair a line")
    vocab_help = (
        "label with this vocabulary instead of choosing one: a .vocab.parquet, a label file, or a text "
        "list of tags, one a line"
    )
    add("--vocab", metavar="FILE", help=vocab_help)
    add("--partial", action="store_true", help="take an unfinished run as far as it has come")
    ray_help = (
        "spread over the Ray cluster at ADDRESS ($RAY_ADDRESS, else one of this machine alone)"
    )
    add("--ray", nargs="?", const="", metavar="ADDRESS", help=ray_help)
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 2500,10000") from error


def _end_at_once(*_: object) -> None:
    """Removes what this process has written aside and ends it, whatever its threads are doing.

    An exception instead would have to wait for them, and where it lands inside an import they
    would wait for this one.
    """
    folder = Path(parse_flags(None).out).parent
    for path in folder.glob(f".*.{os.getpid()}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end_at_once)
    sys.exit(main())
