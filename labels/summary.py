"""The numbers about a vocabulary and its label file that are printed in the terminal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from labels.vocabulary import KINDS, Vocabulary

PERCENTILES = (5, 25, 50, 75, 95, 99)


@dataclass
class LabelCounts:
    """The number of labels per row, counted batch by batch.

    Attributes:
        histogram: int64; element n is the number of rows with n labels.
    """

    histogram: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))

    def add(self, lists: pa.ListArray) -> None:
        """Counts the rows of a batch."""
        lengths = np.bincount(pc.list_value_length(lists).to_numpy())
        size = max(len(lengths), len(self.histogram))
        grown = np.zeros(size, dtype=np.int64)
        grown[: len(self.histogram)] = self.histogram
        grown[: len(lengths)] += lengths
        self.histogram = grown

    @property
    def rows(self) -> int:
        return int(self.histogram.sum())

    @property
    def empty(self) -> int:
        return int(self.histogram[0])

    @property
    def mean(self) -> float:
        return float(self.histogram @ np.arange(len(self.histogram))) / max(self.rows, 1)

    def percentile(self, percent: float) -> int:
        """The smallest n such that `percent` % of the rows have n labels or fewer."""
        reached = np.cumsum(self.histogram) >= self.rows * percent / 100
        return int(np.argmax(reached))


@dataclass
class Coverage:
    """The numbers about one label file.

    Attributes:
        vocabulary: of the file.
        captions: labels per caption, of the captions that were read.
        images: labels per image, of the rows of the file.
        paths: the files that were written.
    """

    vocabulary: Vocabulary
    captions: LabelCounts = field(default_factory=LabelCounts)
    images: LabelCounts = field(default_factory=LabelCounts)
    paths: list[str] = field(default_factory=list)


def summarise(
    tags: pl.DataFrame, unparsed: int, coverages: list[Coverage], synonyms: str = ""
) -> str:
    """The summary for the terminal: the tags, then each label file.

    Args:
        tags: columns of `labels.counting.COUNTS`, every tag of the captions that were read.
        unparsed: number of captions that could not be parsed.
        coverages: one per label file.
        synonyms: a line about what they changed, see `labels.synonyms.effect`.
    """
    totals = {kind: tags.filter(pl.col("kind") == kind) for kind in KINDS}
    sums = {kind: int(table["count"].sum()) for kind, table in totals.items()}
    captions = coverages[0].captions.rows
    note = f"  ({unparsed:,} could not be parsed)" if unparsed else ""
    lines = [
        f"captions        {captions:>14,}{note}",
        f"tags            {sum(sums.values()):>14,}  "
        f"({sums['object']:,} objects, {sums['attribute']:,} attributes; each once per caption)",
        f"distinct tags   {len(tags):>14,}  "
        f"({len(totals['object']):,} objects, {len(totals['attribute']):,} attributes)",
    ]
    if synonyms:
        lines.append(synonyms)
    for coverage in coverages:
        lines += ["", *_file_lines(coverage, totals)]
    return "\n".join(lines)


def _file_lines(coverage: Coverage, totals: dict[str, pl.DataFrame]) -> list[str]:
    sizes = {kind: len(coverage.vocabulary.ids(kind)) for kind in KINDS}
    mass, total = 0, 0
    for kind, table in totals.items():
        own = [coverage.vocabulary.tags[i] for i in coverage.vocabulary.ids(kind)]
        mass += int(table.filter(pl.col("tag").is_in(own))["count"].sum())
        total += int(table["count"].sum())
    with_label = coverage.captions.rows - coverage.captions.empty
    per_image = ", ".join(f"p{p} {coverage.images.percentile(p)}" for p in PERCENTILES)
    return [
        f"vocabulary      {len(coverage.vocabulary):>14,}  "
        f"({sizes['object']:,} objects, {sizes['attribute']:,} attributes)",
        f"  covers        {_share(mass, total):>14}  of all tags",
        f"                {_share(with_label, coverage.captions.rows):>14}  of the captions",
        f"images          {coverage.images.rows:>14,}",
        f"  labels        {coverage.images.mean:>14.2f}  an image on average ({per_image})",
        f"  without label {coverage.images.empty:>14,}  ({_share(coverage.images.empty, coverage.images.rows)})",
        *(f"wrote {path}" for path in coverage.paths),
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "-"
