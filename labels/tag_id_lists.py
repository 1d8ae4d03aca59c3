"""Lists that give a tag to each id, as other projects release them: text, a tag a line, or CSV."""

from __future__ import annotations

import csv
import io

from common.errors import UserError, reason
from parsing.source.files import opened
from parsing.source.values import without_mark

HEADERS = (
    *("tag", "tags", "object", "objects", "name", "names", "label", "labels", "word", "class"),
    *("category", "id", "index"),
)


def read_tags_by_id(path: str) -> list[str]:
    """Reads the tags of ids 0, 1, 2, ...; the list's order is what the ids mean.

    Unlike `read_tag_list` this keeps repetitions and blank lines inside, as later ids would shift.
    In a CSV the first column of text holds the tags. A column of 0, 1, 2, ... in any order beside it
    holds their ids. A first row is a header where a column of numbers begins with text, or where it
    is one of `HEADERS`.

    Returns:
        the tags; "" for an id without one.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or holds no tags.
    """
    try:
        with opened(path) as file:
            text = without_mark(file.read(), path).decode("utf-8")
    except UserError:
        raise
    except Exception as error:  # each codec and file system raises its own
        raise UserError(f"cannot read the list of tags {path}: {reason(error)}") from error
    if ".csv" in path.lower().rpartition("/")[2]:
        tags = _csv_tags(text, path)
    else:
        tags = [line.strip() for line in text.split("\n")]
    while tags and not tags[-1]:
        tags.pop()
    if not any(tags):
        raise UserError(f"the list of tags {path} is empty")
    return tags


def _csv_tags(text: str, path: str) -> list[str]:
    try:
        rows = [
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), strict=True)
        ]
    except csv.Error as error:
        raise UserError(f"the list of tags {path} is no CSV: {error}") from error
    while rows and not any(rows[-1]):
        rows.pop()
    width = max(map(len, rows), default=0)
    if not width:
        raise UserError(f"the list of tags {path} is empty")
    columns = [[row[n] if n < len(row) else "" for row in rows] for n in range(width)]
    numbers = [len(column) > 1 and all(map(_is_number, column[1:])) for column in columns]
    texts = [n for n, is_number in enumerate(numbers) if not is_number]
    if not texts:
        raise UserError(f"the list of tags {path} has no column of text")
    heads = [column[0] for column, is_number in zip(columns, numbers, strict=True) if is_number]
    has_header = any(not _is_number(head) for head in heads)
    # Without another column to tell, a header is known by its word alone.
    has_header |= rows[0][texts[0]].lower() in HEADERS if not heads else False
    start = int(has_header)
    tags = columns[texts[0]][start:]
    for column, is_number in zip(columns, numbers, strict=True):
        if is_number and (ids := _ids(column[start:])) is not None:
            ordered = [""] * len(tags)
            for number, tag in zip(ids, tags, strict=True):
                ordered[number] = tag
            return ordered
    return tags


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ids(column: list[str]) -> list[int] | None:
    """A column as ids, None where it does not hold each of 0, 1, 2, ... once."""
    if not all(text.isdecimal() for text in column):
        return None
    ids = [int(text) for text in column]
    return ids if sorted(ids) == list(range(len(ids))) else None
