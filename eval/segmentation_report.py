"""Results of segmentation as JSON, as a table of classes, and as Markdown below the paper's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.confusion import ConfusionMatrix
from eval.inference.protocols import describe
from eval.paper import LATER, SEGMENTATION, PaperRow, paper_rows, shown


@dataclass(frozen=True)
class Result:
    """The score of one run on one benchmark.

    Attributes:
        benchmark, title: the benchmark's `name` and `title`, see `Description`.
        run: the run's name in tables.
        settings: everything that the figures depend on.
        images: number of scored images.
        miou, pixel_accuracy: in [0, 1]; NaN if nothing was scored.
        classes: name, IoU (None without truth) and number of true pixels of each class.
        bad: images that could not be scored, with the reason.
        partial: whether only some of the benchmark's images were scored.
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
        """The result as JSON; NaN becomes null."""
        values = asdict(self)
        for name in ("miou", "pixel_accuracy"):
            values[name] = None if math.isnan(values[name]) else values[name]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Result:
        """The result from what `to_json` returned."""
        return cls(**{k: math.nan if v is None else v for k, v in values.items()})


def class_rows(matrix: ConfusionMatrix, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row per class, in order: see `Result.classes`."""
    true = matrix.counts.sum(1)
    return [
        {"name": name, "iou": None if math.isnan(iou) else float(iou), "pixels": int(pixels)}
        for name, iou, pixels in zip(names, matrix.iou, true, strict=True)
    ]


def class_table(result: Result) -> str:
    """A text table with a row per class: IoU and share of the true pixels, both in per cent."""
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
        lines.append(f"({absent} classes are in no image and not in the mean)")
    of = f"{result.images:,} images of {result.title}"
    lines.append(
        f"{of}: mIoU {percent(result.miou)}, pixel accuracy {percent(result.pixel_accuracy)}"
    )
    return "\n".join(lines)


def protocol_of(result: Result) -> str:
    """One line that states every step from image to class that made a result."""
    inference = result.settings.get("inference", {})
    if "protocol" not in inference:
        return "protocol not recorded"
    return describe(inference, result.benchmark)


def markdown(results: Sequence[Result]) -> str:
    """A Markdown table of mIoU in per cent: a row per run, below the paper's and later methods'."""
    columns = {result.benchmark: result.title for result in results}
    rows: dict[str, dict[str, str]] = {}
    for result in results:
        mark = "*" if result.partial or result.bad else ""
        rows.setdefault(result.run, {})[result.benchmark] = percent(result.miou) + mark
    paper = [row for table in (SEGMENTATION, LATER) for row in paper_rows(table, list(columns))]
    notes = []
    made: dict[str, list[str]] = {}
    for result in results:
        made.setdefault(protocol_of(result), []).append(f"{result.run} on {result.title}")
    notes += [f"{', '.join(which)}: {protocol}." for protocol, which in made.items()]
    if any(result.partial or result.bad for result in results):
        notes.append("\\* only some of the benchmark's images were scored")
    if not paper:
        notes.append("The paper has no figures for these benchmarks.")
    return table("mIoU, %", columns, rows, paper, notes)


def table(
    figure: str,
    columns: dict[str, str],
    rows: dict[str, dict[str, str]],
    paper: Sequence[PaperRow],
    notes: Sequence[str],
) -> str:
    """A Markdown table whose first rows are others', each with its source.

    Args:
        figure: what the cells are, the title of the first column.
        columns: titles by column name.
        rows: cells by run and column name.
        paper: rows of others, in per cent, with the digits that were reported.
        notes: paragraphs below the table.
    """
    lines = [f"| {figure} | " + " | ".join(columns.values()) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for row in paper:
        cells = [shown(row.values[name]) if name in row.values else "-" for name in columns]
        lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(cells.get(one, "-") for one in columns) + " |")
    return "\n".join(lines + [line for note in notes for line in ("", note)]) + "\n"


def percent(share: float) -> str:
    """`12.34` of 0.1234, or a dash for NaN."""
    return "-" if math.isnan(share) else f"{100 * share:.2f}"
