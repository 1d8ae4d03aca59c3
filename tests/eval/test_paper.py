"""The paper's rows are above ours, marked as the paper's, and only for columns that exist."""

from __future__ import annotations

import pytest
import yaml

from eval.datasets.benchmark_list import BENCHMARKS
from eval.datasets.referring import SPLITS
from eval.paper import FILE, LATER, REFERRING, SEGMENTATION, PaperRow, paper_rows, shown
from eval.segmentation_report import markdown, table
from tests.eval.test_segmentation import result_of

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
    assert set(yaml.safe_load(FILE.read_text())["tables"][name]["columns"]) == set(known)
    paper_rows(name, list(known))


def test_every_table_holds_the_figures_that_were_read_from_the_paper(shared):
    file = shared.parent / "paper/tables.yaml"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    read = yaml.safe_load(file.read_text())["tables"]
    for name, about in read.items():
        ours = paper_rows(name)
        assert [(one.method, one.data, one.post, one.values) for one in ours] == [
            (row["method"], row.get("data", ""), row.get("post", False), row["values"])
            for row in about["rows"]
        ]


def test_rows_say_what_was_trained_on_whether_it_was_refined_and_where_it_was_read():
    best = paper_rows("1")[-1]
    assert best.label == "TagAlign, CC12M, refined (paper, Table 1)"
    assert paper_rows(REFERRING)[0].label == "GroupViT (paper, referring table)"
    assert paper_rows(LATER)[0].label == "SCLIP (read in SCLIP's README)"
    assert [shown(one) for one in (19.0, 52.8, 7.99, 18.6)] == ["19.0", "52.8", "7.99", "18.6"]


def test_a_result_stands_below_every_row_of_table_1_and_the_later_methods():
    lines = markdown([result_of("coco_object", 0.123)]).splitlines()
    rows = [line.split("|")[1].strip() for line in lines[2:] if line.startswith("|")]
    theirs = paper_rows("1", ["coco_object"]) + paper_rows(LATER, ["coco_object"])
    assert len(paper_rows("1", ["coco_object"])) == len(paper_rows("1")) == 24
    assert rows == [*(one.label for one in theirs), "ours"]
    assert lines[2 + len(theirs)] == "| ours | 12.30 |"
    assert "The paper has no figures" in markdown([result_of("mine", 0.5)])
