"""The paper's rows are above ours, marked as the paper's, and only for columns that exist."""

from __future__ import annotations

import pytest

from eval.datasets.benchmark_list import BENCHMARKS
from eval.datasets.referring import SPLITS
from eval.paper import REFERRING, SEGMENTATION, PaperRow, paper_rows
from eval.segmentation_report import table

TABLES = """
tables:
  "1":
    title: Segmentation
    columns: [voc, ade20k]
    rows:
      - {method: Theirs, values: {voc: 12.3, ade20k: 4.5}}
      - {method: Others, values: {ade20k: 6.7}}
"""


def test_only_rows_with_a_figure_in_the_columns_are_returned(tmp_path):
    (tmp_path / "paper.yaml").write_text(TABLES)
    [row] = paper_rows("1", ["voc"], tmp_path / "paper.yaml")
    assert row == PaperRow("1", "Theirs", {"voc": 12.3})
    drawn = table("mIoU, %", {"voc": "VOC"}, {"ours": {"voc": "1.00"}}, [row], [])
    assert drawn.splitlines()[0] == "| mIoU, % | VOC |"
    assert drawn.splitlines()[2:] == ["| Theirs (paper, Table 1) | 12.3 |", "| ours | 1.00 |"]


def test_an_unknown_column_is_an_error(tmp_path):
    (tmp_path / "paper.yaml").write_text(TABLES.replace("ade20k: 6.7", "ade: 6.7"))
    with pytest.raises(ValueError, match="table 1 has no column ade"):
        paper_rows("1", ["voc"], tmp_path / "paper.yaml")


@pytest.mark.parametrize(("name", "known"), [(SEGMENTATION, BENCHMARKS), (REFERRING, SPLITS)])
def test_the_papers_columns_are_our_benchmarks(name, known):
    import yaml

    from eval.paper import FILE

    assert set(yaml.safe_load(FILE.read_text())["tables"][name]["columns"]) == set(known)
    paper_rows(name, list(known))
