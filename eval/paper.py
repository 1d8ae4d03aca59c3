"""Figures of others that stand above ours: the paper's tables, and later methods (`paper.yaml`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("paper.yaml")
SEGMENTATION, REFERRING, LATER = "1", "referring", "later"  # LATER: columns as in SEGMENTATION


@dataclass(frozen=True)
class PaperRow:
    """A row of one of the tables.

    Attributes:
        table: the table's name in `paper.yaml`, such as `1`.
        method: the method that was measured.
        values: figures in per cent by column; columns without a figure are absent.
        data: what the method was trained on; empty where the table does not say.
        post: whether PAMR or a CRF refined the result.
        source: where the figure was read; empty for the paper's own tables.
    """

    table: str
    method: str
    values: dict[str, float]
    data: str = ""
    post: bool = False
    source: str = ""

    @property
    def label(self) -> str:
        """The row's title, such as `TCL, CC3&12M, refined (paper, Table 1)`."""
        what = ", ".join([self.method, *filter(None, [self.data, "refined" if self.post else ""])])
        table = f"Table {self.table}" if self.table.isdecimal() else f"{self.table} table"
        return f"{what} ({f'read in {self.source}' if self.source else f'paper, {table}'})"


def paper_rows(
    table: str, columns: Sequence[str] | None = None, file: Path = FILE
) -> list[PaperRow]:
    """The rows of one of the tables that have a figure in some of the columns.

    Args:
        table: a key of `tables` in the file.
        columns: column names; None takes all.
        file: in the form of `paper.yaml`.

    Raises:
        ValueError: a row names a column that its table does not have.
    """
    about = yaml.safe_load(file.read_text("utf-8"))["tables"][table]
    rows = []
    for row in about["rows"]:
        if odd := sorted(set(row["values"]) - set(about["columns"])):
            raise ValueError(f"{file}: table {table} has no column {odd[0]}")
        wanted = about["columns"] if columns is None else columns
        values = {name: row["values"][name] for name in wanted if name in row["values"]}
        if values:
            more = {name: row[name] for name in ("data", "post", "source") if name in row}
            rows.append(PaperRow(table, row["method"], values, **more))
    return rows


def shown(value: float) -> str:
    """A figure with the digits that were reported: one decimal, or two in the referring table."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"
