"""TSV: CC12M's own `url<TAB>caption`, with or without a header, in either order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import regex

from common.errors import UserError
from parsing.source.values import (
    CAPTION_NAMES,
    KEY_NAMES,
    Row,
    Wanted,
    columns,
    decoded,
    no_key,
    usual,
    without_mark,
)

LINES = 200  # that are looked at before the first one is read
_URL = regex.compile(r"(?:[a-z][a-z0-9+.-]*:)?//\S+|www\.\S+|data:\S+", regex.IGNORECASE)
_FILE = regex.compile(r"\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?)", regex.IGNORECASE)
_NAME = regex.compile(r"#?[\p{L}_][\w .-]{0,40}")
# Names of columns that are not taken unasked; a line of nothing but names of columns is a header.
_NAMES = frozenset(
    (*CAPTION_NAMES, *KEY_NAMES, "title", "description", "alt", "sentence", "file_path", "path")
    + ("img", "label", "labels", "width", "height", "split")
)
_SURE = 0.9  # share of a column's cells that tells what the column holds


@dataclass(frozen=True)
class Layout:
    """Which cell of a line is what.

    Attributes:
        caption, key: places of the cells; None where no cell names the image.
        cells: how many a line has.
        shape: the same in words.
        header: whether the first line names the columns.
        quoted: whether every cell stands in quotation marks.
        note: what the user should know.
    """

    caption: int = 1
    key: int | None = 0
    cells: int = 2
    shape: str = "url<TAB>caption"
    header: bool = False
    quoted: bool = False
    note: str | None = None


def find_layout(lines: Sequence[bytes], wanted: Wanted, path: str) -> Layout:
    """The layout that the first lines show.

    Raises:
        UserError: a column was asked for and no header names it, or none of a header's is a usual one.
    """
    cells = [line.rstrip(b"\r\n").decode("utf-8", "replace").split("\t") for line in lines]
    cells = [line for line in cells if line != [""]]
    quoted = bool(cells) and all(_is_quoted(cell) for line in cells for cell in line)
    if quoted:
        cells = [list(map(_unquoted, line)) for line in cells]
    keys = _names_below(cells)
    if cells and _is_header(cells[0], wanted, keys is not None):
        names = [_name(cell) for cell in cells[0]]
        caption, key = columns(names, wanted, path)
        if key is None and keys is not None and names[keys] != caption:
            key = names[keys]
        places = names.index(caption), None if key is None else names.index(key)
        note = f"{path} has a header: captions are in its column '{caption}'"
        note += "" if key is None else f", keys in '{key}'"
        return Layout(*places, len(names), "<TAB>".join(names), True, quoted, note)
    for flag, name in (("--caption-column", wanted.caption), ("--key-column", wanted.key)):
        if name is not None and cells:
            raise UserError(f"{path} has no header, so it has no column '{name}': see {flag}")
    pairs = [line for line in cells if len(line) == 2]
    for pattern, what in ((_URL, "URLs"), (_FILE, "file names")):
        found = [sum(_is(pattern, line[n]) for line in pairs) for n in (0, 1)]
        if pairs and found[1] >= _SURE * len(pairs) and found[0] <= (1 - _SURE) * len(pairs):
            note = f"{path} has {what} in its second column: the first one is read as the caption"
            return Layout(0, 1, 2, "caption<TAB>url", False, quoted, note)
    return Layout(quoted=quoted)


def _is(pattern: regex.Pattern, cell: str) -> bool:
    return pattern.fullmatch(cell.strip()) is not None


def _names_image(cell: str) -> bool:
    return _is(_URL, cell) or _is(_FILE, cell)


def _names_below(cells: list[list[str]]) -> int | None:
    """The column in which nearly all lines but the first have a URL or a file name."""
    first, *rest = cells or [[]]
    rest = [line for line in rest if len(line) == len(first)]
    for place, cell in enumerate(first if len(rest) > 1 else []):
        found = sum(_names_image(line[place]) for line in rest)
        if not _names_image(cell) and found >= _SURE * len(rest):
            return place
    return None


def _name(cell: str) -> str:
    return cell.strip().removeprefix("#")


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _is_quoted(cell) else cell


def _is_header(cells: list[str], wanted: Wanted, above: bool) -> bool:
    """Whether cells are names of columns: those that were asked for, usual ones, or any above images.

    The first may have no name: pandas writes its row numbers so.
    """
    if not all(map(_NAME.fullmatch, map(str.strip, cells[not cells[0] :]))):
        return False
    names = [_name(cell) for cell in cells if cell]
    named = [name for name in (wanted.caption, wanted.key) if name is not None]
    if named:
        return all(name in names for name in named)
    if usual(names, CAPTION_NAMES) is not None and usual(names, KEY_NAMES) is not None:
        return True
    if above and len(names) > 1:
        return True
    return len(names) > 1 and _NAMES.issuperset(map(str.lower, names))


def read_tsv(
    file: BinaryIO, path: str, wanted: Wanted, tell: Callable[[str, str], None]
) -> Iterator[Row]:
    """The rows of a file; empty lines are none, and quotation marks mean nothing unless all cells have them.

    Args:
        tell: called with a kind of note and the note.

    Raises:
        UserError: as `find_layout`, or a byte-order mark that is not UTF-8's.
    """
    head = list(itertools.islice(file, LINES))
    if head:
        head[0] = without_mark(head[0], path)
    layout = find_layout(head, wanted, path)
    if layout.note is not None:
        tell("header" if layout.header else "order", layout.note)
    if layout.key is None:
        tell("key", no_key(path))
    header = layout.header
    for number, line in enumerate(itertools.chain(head, file), start=1):
        line = line.rstrip(b"\r\n")
        if not line:
            continue
        if header:
            header = False
            continue
        text, problem = decoded(line, f"line {number}: not UTF-8")
        cells = text.split("\t")
        if layout.quoted:
            cells = list(map(_unquoted, cells))
        fallback = f"{path}:{number}"
        if len(cells) != layout.cells:
            plural = "column" if len(cells) == 1 else "columns"
            problem = f"line {number}: {len(cells)} {plural} instead of {layout.shape}"
            yield Row(cells[0] or fallback, "\t".join(cells[1:]), problem)
        else:
            key = None if layout.key is None else cells[layout.key].strip()
            yield Row(key or fallback, cells[layout.caption], problem)
