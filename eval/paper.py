"""The paper's figures, as far as `paper.yaml` contains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("paper.yaml")
SEGMENTATION, REFERRING = "1", "referring"


@dataclass(frozen=True)
class PaperRow:
    """A row of one of the paper's tables.

    Attributes:
        table: the table's name in `paper.yaml`, such as `1`.
        method: the method that was measured.
        values: figures in per cent by column; columns without a figure are absent.
    """

    table: str
    method: str
    values: dict[str, float]


def paper_rows(
    table: str, columns: Sequence[str] | None = None, file: Path = FILE
) -> list[PaperRow]:
    """The rows of one of the paper's tables that have a figure in some of the columns.

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
            rows.append(PaperRow(table, row["method"], values))
    return rows
