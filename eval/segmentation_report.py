"""Results of segmentation as JSON, as a table of classes, and as Markdown beside the paper's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.confusion import ConfusionMatrix
from eval.paper import SEGMENTATION, PaperRow, paper_rows


@dataclass(frozen=True)
class Result:
    """What one run scored on one benchmark.

    Attributes:
        benchmark, title: of `benchmark_data`.
        run: for people.
        settings: all that the figures depend on.
        images: how many were counted.
        miou, pixel_accuracy: shares, NaN where nothing was counted.
        classes: name, IoU (None where the truth has none) and true pixels of each class.
        bad: images that could not be scored, and why.
        partial: whether only some of the benchmark's images were asked for.
    """

    benchmark: str
    title: str
    run: str
    settings: dict[str, Any]
    images: int
    miou: float
    pixel_accuracy: float
    classes: list[dict[str, Any]]
    bad: list[dict[str, str]]
    partial: bool

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: what has no value is null."""
        values = asdict(self)
        for name in ("miou", "pixel_accuracy"):
            values[name] = None if math.isnan(values[name]) else values[name]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Result:
        """Undoes `to_json`."""
        return cls(**{k: math.nan if v is None else v for k, v in values.items()})


def class_rows(matrix: ConfusionMatrix, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each class, in their order."""
    true = matrix.counts.sum(1)
    return [
        {"name": name, "iou": None if math.isnan(iou) else float(iou), "pixels": int(pixels)}
        for name, iou, pixels in zip(names, matrix.iou, true, strict=True)
    ]


def class_table(result: Result) -> str:
    """Classes down; IoU and share of the true pixels in per cent."""
    total = sum(row["pixels"] for row in result.classes) or 1
    width = max(len(row["name"]) for row in result.classes)
    lines = [f"{'class':{width}}     IoU  pixels"]
    absent = 0
    for row in result.classes:
        if row["iou"] is None:
            absent += 1
            continue
        lines.append(
            f"{row['name']:{width}}  {100 * row['iou']:6.2f}  {100 * row['pixels'] / total:5.1f}%"
        )
    if absent:
        lines.append(f"({absent} classes are in no image and left out of the mean)")
    of = f"{result.images:,} images of {result.title}"
    lines.append(
        f"{of}: mIoU {percent(result.miou)}, pixel accuracy {percent(result.pixel_accuracy)}"
    )
    return "\n".join(lines)


def markdown(results: Sequence[Result]) -> str:
    """One row for each run, below the paper's for the same benchmarks; mIoU in per cent."""
    columns = {result.benchmark: result.title for result in results}
    rows: dict[str, dict[str, str]] = {}
    for result in results:
        mark = "*" if result.partial or result.bad else ""
        rows.setdefault(result.run, {})[result.benchmark] = percent(result.miou) + mark
    paper = paper_rows(SEGMENTATION, list(columns))
    notes = []
    if any(result.partial or result.bad for result in results):
        notes.append("\\* of some of the benchmark's images only")
    if not paper:
        notes.append(
            "The paper's figures for these benchmarks are not recorded in `eval/paper.yaml`."
        )
    return table("mIoU, %", columns, rows, paper, notes)


def table(
    figure: str,
    columns: dict[str, str],
    rows: dict[str, dict[str, str]],
    paper: Sequence[PaperRow],
    notes: Sequence[str],
) -> str:
    """A Markdown table whose first rows are marked as the paper's.

    Args:
        figure: what the cells are.
        columns: titles by name.
        rows: cells by column of each run.
        paper: rows of one of the paper's tables.
        notes: lines below the table.
    """
    lines = [f"| {figure} | " + " | ".join(columns.values()) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for row in paper:
        cells = [f"{row.values[name]:.1f}" if name in row.values else "-" for name in columns]
        lines.append(f"| {row.method} (paper, Table {row.table}) | " + " | ".join(cells) + " |")
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(cells.get(one, "-") for one in columns) + " |")
    return "\n".join(lines + [line for note in notes for line in ("", note)]) + "\n"


def percent(share: float) -> str:
    """`12.34`, or a dash where there is no value."""
    return "-" if math.isnan(share) else f"{100 * share:.2f}"
