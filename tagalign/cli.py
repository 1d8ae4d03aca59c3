"""The command `tagalign`: the project's commands by name, also where only the package is installed.

tagalign labels --k 10000          the same as `python labels/build_vocab.py --k 10000`
tagalign path train                where a script is, for `torchrun "$(tagalign path train)"`
tagalign path                      the folder of all of it, for PYTHONPATH

The rooms of a checkout are folders of this package where it is installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

COMMANDS = {
    "parse": ("parsing/run.py", "captions to tags"),
    "status": ("parsing/status.py", "how far a run is"),
    "distill": ("parsing/distill.py", "a student of a large model's tags"),
    "import": ("labels/import_tags.py", "released tags of others to a tag folder"),
    "labels": ("labels/build_vocab.py", "tags to a vocabulary and labels"),
    "train": ("training/train.py", "labels to a run"),
    "check-tags": ("training/check_tags.py", "drops tags that the pictures do not show"),
    "segment": ("eval/segment.py", "scores runs on segmentation benchmarks"),
    "refer": ("eval/refer.py", "scores runs on referring benchmarks"),
    "show": ("eval/show.py", "segments a picture by any words"),
    "parsers": ("eval/parsers.py", "scores parsers against gold tags"),
    "publish": ("workflows/publish.py", "tags and labels to a data set for the hub"),
}
PATH = "path"
# Extras of pyproject.toml: the commands that need one, and modules by which it is known.
EXTRAS = {
    "train": (("train", "check-tags"), ("open_clip", "PIL", "scipy")),
    "eval": (("segment", "refer", "show"), ("open_clip", "PIL", "pycocotools")),
}


def root() -> Path:
    """The folder in which the rooms lie: this package's own, or in a checkout the one above."""
    here = Path(__file__).resolve().parent
    return here if (here / "parsing").is_dir() else here.parent


def usage() -> str:
    """The list of commands."""
    lines = [f"    tagalign {name:10} {about}" for name, (_, about) in COMMANDS.items()]
    lines.append(
        f"    tagalign {PATH:10} where a command's script is, or the folder of all of them"
    )
    return "usage: tagalign COMMAND [flags], with --help for its flags\n\n" + "\n".join(lines)


def missing(name: str) -> str | None:
    """What a command lacks, in one sentence; None if it can start."""
    for extra, (commands, modules) in EXTRAS.items():
        lacking = [module for module in modules if find_spec(module) is None]
        if name in commands and lacking:
            return (
                f"`tagalign {name}` needs packages that are not installed ({', '.join(lacking)}): "
                f"run pip install '.[{extra}]' in a checkout"
            )
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Becomes the process of a command's script, so that signals and workers are as in a checkout.

    Returns:
        the exit code, where no script is started: 0, or 2 for an unknown command and for one whose
        packages are not installed.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == PATH and len(rest) <= 1 and (not rest or rest[0] in COMMANDS):
        print(root() / COMMANDS[rest[0]][0] if rest else root())
        return 0
    if name not in COMMANDS:
        what = " ".join([name, *rest]) if name == PATH else name
        print(f"error: there is no command '{what}'\n\n{usage()}", file=sys.stderr)
        return 2
    if sentence := missing(name):
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    sys.stdout.flush()
    script = str(root() / COMMANDS[name][0])
    os.execv(sys.executable, [sys.executable, script, *rest])


if __name__ == "__main__":
    sys.exit(main())
