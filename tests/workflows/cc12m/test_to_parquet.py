"""Captions and images find each other again, whichever file the captions were parsed from."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from common.storage import Folder
from labels.label_file import LABELS, LabelWriter
from labels.reader import Labels
from labels.vocabulary import OBJECT, Vocabulary
from parsing.source.captions import unique_captions
from parsing.source.readers import Source
from training.images import find_images, open_index
from training.keys import join
from workflows.cc12m.to_parquet import convert, keep_downloaded, main


def joined(crawl, captions, tmp_path, field):
    """Keys as parsing reads them, through a label file, to images as training finds them."""
    rows = [
        row for batch, _, _ in unique_captions(Source((str(captions),)).rows()) for row in batch
    ]
    vocabulary = Vocabulary(["thing"], [OBJECT], [1], len(rows))
    path = tmp_path / "labels.parquet"
    table = [{"key": row.key, "caption": row.caption, "tag_ids": [0]} for row in rows]
    with LabelWriter(path, vocabulary) as writer:
        writer.write(pa.Table.from_pylist(table, schema=LABELS))
    labels, files = Labels(path), find_images(str(crawl.folder))
    index = open_index(files, field, Folder(str(tmp_path / "cache")))
    found = join(index, files, labels, field)
    names = [index[int(row)]["name"] for row in found.images]
    return dict(zip(names, labels.captions(found.labels), strict=True))


HAVE = {
    "000001.jpg": '"quoted" start of a caption with a dog',
    "000000.jpg": "a red car on the old bridge",
    "000002.jpg": 'she said "hi" to a black cat',
    "000012.jpg": "a plain house",
    "000011.jpg": "naïve café 😀 with wooden chairs",
    "000010.jpg": 'a "half quote and a lamp',
}


@pytest.mark.parametrize(
    ("captions", "field"),
    [
        ("cc12m.tsv", "url"),
        ("cc12m.parquet", "url"),
        ("there.parquet", None),
        ("cc12m/*.tar", None),
        ("cc12m/*.parquet", None),
    ],
)
def test_every_image_gets_its_own_caption(crawl, tmp_path, captions, field):
    convert(crawl.tsv, tmp_path / "cc12m.parquet")
    keep_downloaded(crawl.folder, tmp_path / "there.parquet")
    assert joined(crawl, tmp_path / captions, tmp_path, field) == HAVE


def test_img2dataset_would_lose_a_row_of_the_tsv_and_change_a_caption(crawl):
    """Why there is a conversion: this is how img2dataset opens a TSV."""
    options = pyarrow.csv.ParseOptions(delimiter="\t")
    table = pyarrow.csv.read_csv(crawl.tsv, parse_options=options)
    assert len(table) == 6
    assert table.column(1)[0].as_py() == "quoted start of a caption with a dog"


def test_rows_that_cannot_be_read_are_counted_and_the_others_kept_as_they_are(tmp_path, capsys):
    tsv = tmp_path / "c.tsv"
    tsv.write_bytes(b"u1\ta dog\nu2\tcaf\xe9\nonly one\nu3\t 'a' \"b\" \nu4\t\n")
    assert main([str(tsv), str(tmp_path / "c.parquet")]) == 0
    assert "3 rows in" in (said := capsys.readouterr().out)
    assert "2 left out" in said
    assert pq.read_table(tmp_path / "c.parquet").to_pylist() == [
        {"url": "u1", "caption": "a dog"},
        {"url": "u3", "caption": " 'a' \"b\" "},
        {"url": "u4", "caption": ""},
    ]


@pytest.mark.parametrize("header", ["url\tcaption", "picture\twords"])
def test_a_header_is_left_out_on_request(tmp_path, header):
    tsv = tmp_path / "c.tsv"
    tsv.write_text(f"{header}\nu1\ta dog\n")
    assert convert(tsv, tmp_path / "c.parquet", header=True) == (1, 0)
    assert pq.read_table(tmp_path / "c.parquet")["url"].to_pylist() == ["u1"]


def test_only_images_that_came_are_kept(crawl, tmp_path):
    assert keep_downloaded(crawl.folder, tmp_path / "there.parquet") == (6, 1)
    table = pq.read_table(tmp_path / "there.parquet")
    assert table.column_names == ["key", "url", "caption"]
    assert "000003" not in table["key"].to_pylist()


def test_bad_input_is_told_in_one_sentence_and_leaves_nothing(crawl, tmp_path, capsys):
    empty, other, target = tmp_path / "empty", tmp_path / "other", tmp_path / "x.parquet"
    empty.mkdir()
    other.mkdir()
    pq.write_table(pa.table({"key": ["1"]}), other / "00000.parquet")
    (tmp_path / "no.tsv").write_text("one column\n")
    cases = {
        empty: "holds no *.parquet",
        other: "lack one of key, url, caption, status",
        tmp_path / "nowhere.tsv": "there are no captions at",
        tmp_path / "no.tsv": "has no row",
    }
    for source, sentence in cases.items():
        assert main([str(source), str(target)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert sentence in error
        assert error.count("\n") == 1
    assert main([str(crawl.tsv), str(tmp_path / "no" / "x.parquet")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert not target.exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
