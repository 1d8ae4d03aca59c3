"""Text files written by hand: lists of tags, and synonyms. Both are read as NFC."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from common.errors import UserError


def read_tag_list(path: str) -> list[str]:
    """Reads a list of tags, one a line; blank lines, `#` comments and repetitions are dropped.

    Returns:
        the tags in the order of the file.

    Raises:
        UserError: the file does not exist, cannot be read, or is not UTF-8.
    """
    return list(dict.fromkeys(line for _, line in _lines(path)))


def read_synonyms(path: str) -> dict[str, str]:
    """Reads synonyms, one `tag<TAB>tag to count it as` a line; chains are followed to their end.

    Returns:
        tag -> tag to count it as.

    Raises:
        UserError: the file cannot be read, a line has not exactly two tags, a tag has two synonyms, or
            synonyms form a cycle.
    """
    direct: dict[str, str] = {}
    for number, line in _lines(path):
        tag, tab, target = line.partition("\t")
        tag, target = tag.strip(), target.strip()
        if not (tab and tag and target) or "\t" in target:
            raise UserError(
                f"line {number} of {path} is not `tag<TAB>tag to count it as`: {line!r}"
            )
        if direct.setdefault(tag, target) != target:
            raise UserError(f"line {number} of {path} gives '{tag}' a second synonym, '{target}'")
    return {tag: _end(tag, direct, path) for tag, target in direct.items() if tag != target}


def _end(tag: str, direct: dict[str, str], path: str) -> str:
    seen = [tag]
    while (target := direct.get(seen[-1], seen[-1])) != seen[-1]:
        if target in seen:
            raise UserError(f"synonyms in {path} form a cycle: {' -> '.join([*seen, target])}")
        seen.append(target)
    return seen[-1]


def _lines(path: str) -> list[tuple[int, str]]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    text = unicodedata.normalize("NFC", text)
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
