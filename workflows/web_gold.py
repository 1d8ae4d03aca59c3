"""Joins the repository's gold tags of web captions with the captions: a file for distill.py and parsers.py.

    python workflows/web_gold.py --captions cc3m_val.tsv alttext.parquet --output web_more.jsonl

The captions are of Conceptual Captions 3M's validation split and of img2dataset's test file, and are
not part of this repository: `prompts/web_gold.jsonl` names each by a hash of its text.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The repository, not this folder, so that nothing here hides a library.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError, reason
from common.flags import setting
from common.storage import Folder
from parsing.source.readers import Source
from workflows.command import run_command

TAGS = Path(__file__).resolve().parents[1] / "prompts" / "web_gold.jsonl"


@dataclass(frozen=True)
class Settings:
    """What is joined."""

    captions: tuple[str, ...] = setting((), "as in parsing/run.py", metavar="PATH", action="extend")
    tags: str = setting(str(TAGS), "tags by the hash of a caption", metavar="FILE")
    output: str = setting("web_more.jsonl", "gold file that is written", metavar="FILE")

    def __post_init__(self) -> None:
        if not self.captions:
            raise UserError("--captions is missing: name the files that hold the captions")


def join(settings: Settings) -> str:
    """Writes the gold file: the tags of every caption that was found, in the order of the tags.

    Returns:
        how many captions were found.

    Raises:
        UserError: a file can't be read or written, or no caption was found.
    """
    tags = dict(read_tags(Path(settings.tags)))
    found = {}
    for row in Source(settings.captions).checked_rows():
        if row.problem is None and (key := caption_hash(row.caption)) in tags:
            found[key] = row.caption
    if not found:
        raise UserError(
            f"none of the {len(tags):,} captions that {settings.tags} has tags of is in --captions"
        )
    lines = [
        json.dumps({"caption": found[key]} | row, ensure_ascii=False) + "\n"
        for key, row in tags.items()
        if key in found
    ]
    output = Path(settings.output)
    Folder(output.parent).write(output.name, "".join(lines).encode())
    return f"{len(lines):,} of {len(tags):,} captions were found: {output}"


def read_tags(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file of tags: (hash of the caption, its other columns).

    Raises:
        UserError: the file can't be read, or a line has no hash.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the tags {path}: {reason(error)}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            yield row.pop("caption_sha256"), row
        except (ValueError, AttributeError, KeyError) as error:
            raise UserError(f"{path}, line {number}: no `caption_sha256` can be read") from error


def caption_hash(caption: str) -> str:
    """The first 16 hexadecimal digits of SHA-256 of the caption's UTF-8 bytes."""
    return hashlib.sha256(caption.encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(run_command(__doc__, Settings, join))
