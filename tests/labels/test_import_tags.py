"""Released tags of other projects, as miniatures of their files, become labels."""

from __future__ import annotations

import gzip
import json

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labels.build import build
from labels.import_tags import main
from labels.reader import Labels
from labels.settings import Settings

URLS = [f"https://example.org/{name}.jpg?w=3" for name in ("a", "b", "c")]


def _import(tmp_path, *flags) -> int:
    return main([*map(str, flags), "--out", str(tmp_path / "tags")])


def _labels(tmp_path) -> Labels:
    out = tmp_path / "labels" / "x.parquet"
    build(Settings(tags=(str(tmp_path / "tags"),), out=str(out), k=10), note=lambda _: None)
    return Labels(out)


def _tags(labels: Labels) -> list[set[str]]:
    names = labels.vocabulary.tags
    return [{names[i] for i in labels.row(n)} for n in range(len(labels))]


def test_the_authors_index_and_csv_become_labels(tmp_path, capsys):
    (tmp_path / "index.json").write_text(
        json.dumps(dict(zip(URLS, ([0, 2], [1], []), strict=True)))
    )
    (tmp_path / "object_list.csv").write_text(",0\n0,cat\n1,dog\n2,ball\n")
    captions = "".join(f"{url}\tcaption of {url[20]}\n" for url in reversed(URLS[:2]))
    (tmp_path / "cc12m.tsv").write_text(captions)
    flags = ["--tag-list", tmp_path / "object_list.csv", "--captions", tmp_path / "cc12m.tsv"]
    assert _import(tmp_path, "--tags", tmp_path / "index.json", *flags) == 0
    assert "1 images have no caption in" in capsys.readouterr().err
    labels = _labels(tmp_path)
    assert labels.keys(range(3)) == URLS
    assert _tags(labels) == [{"cat", "ball"}, {"dog"}, set()]
    assert labels.captions(range(3)) == ["caption of a", "caption of b", ""]


RAM = [
    {"image_path": "cc12m/00000/000000012.jpg", "caption": ["a cat", "a grey cat"],
     "union_label_id": [0, 1], "parse_label_id": [[0], [0]]},
    {"image_path": "cc12m/00000/000000013.jpg", "caption": ["dogs"], "union_label_id": [1],
     "parse_label_id": [[1]]},
]  # fmt: skip


def test_rams_json_becomes_labels_by_the_name_of_the_image(tmp_path, memory):
    with memory.open("/cc12m_ram.json.gz", "wb") as file:
        file.write(gzip.compress(json.dumps(RAM, indent=1).encode()))
    (tmp_path / "list.txt").write_text("cat\ndog\n")
    flags = ["--tag-list", tmp_path / "list.txt", "--key", "stem"]
    assert _import(tmp_path, "--tags", "memory://cc12m_ram.json.gz", *flags) == 0
    labels = _labels(tmp_path)
    assert labels.keys(range(2)) == ["000000012", "000000013"]
    assert labels.captions(range(2)) == ["a cat", "dogs"]
    assert _tags(labels) == [{"cat", "dog"}, {"dog"}]


def test_another_field_of_rams_lists_can_be_read(tmp_path):
    for record in RAM:
        record["first"] = record["parse_label_id"][0]
    (tmp_path / "ram.json").write_text(json.dumps(RAM))
    (tmp_path / "list.txt").write_text("cat\ndog\n")
    flags = ["--tag-list", tmp_path / "list.txt", "--tag-field", "first"]
    assert _import(tmp_path, "--tags", tmp_path / "ram.json", *flags) == 0
    assert _tags(_labels(tmp_path)) == [{"cat"}, {"dog"}]


ROWS = [
    {"key": "a", "tags": ["Cats", "sofa"], "caption": "Cats on a red sofa",
     "attributes": [{"attribute": "red", "object": "sofa"}]},
    {"key": "b", "tags": "dog | ball", "caption": None, "attributes": ["wet"]},
    {"key": "a", "tags": ["again"]},
    {"key": "c", "tags": 7},
]  # fmt: skip


def test_records_of_keys_and_tags_are_read_and_bad_ones_kept_as_failed(tmp_path, capsys):
    text = (
        "\n".join(json.dumps(row) for row in [*ROWS, {"key": "d", "tags": []}]) + "\nnot json\n\n"
    )
    (tmp_path / "mine.jsonl").write_text(text)
    assert _import(tmp_path, "--tags", tmp_path / "mine.jsonl", "--normalise") == 0
    notes = capsys.readouterr().err
    assert "1 entries repeat the key" in notes
    assert "the tags of 2 images cannot be read" in notes
    labels = _labels(tmp_path)
    assert labels.keys(range(5))[:4] == ["a", "b", "c", "d"]
    assert _tags(labels)[:2] == [{"cat", "sofa", "red"}, {"dog", "ball", "wet"}]
    kinds = dict(zip(labels.vocabulary.tags, labels.vocabulary.kinds, strict=True))
    assert kinds["red"] == kinds["wet"] == "attribute"
    failed = pl.read_parquet(tmp_path / "tags" / "part-*.parquet").filter(status="failed")
    assert failed["error"].to_list() == [
        "line 4 holds int in place of a list of tags", "line 6 is not JSON",
    ]  # fmt: skip


def test_parquet_of_keys_and_tags_is_read(tmp_path):
    table = pa.table({"image_id": [4, 5], "labels": [["cat"], None]})
    pq.write_table(table, tmp_path / "mine.parquet")
    assert _import(tmp_path, "--tags", tmp_path / "mine.parquet") == 0
    labels = _labels(tmp_path)
    assert labels.keys(range(2)) == ["4", "5"]
    assert _tags(labels) == [{"cat"}, set()]


def test_nulls_are_no_tags_and_an_empty_name_is_no_image(tmp_path, capsys):
    (tmp_path / "x.json").write_text('{"a": ["cat", null, " ", "cat"], "": ["dog"], "b": null}')
    assert _import(tmp_path, "--tags", tmp_path / "x.json") == 0
    assert "the tags of 1 images cannot be read" in capsys.readouterr().err
    rows = pl.read_parquet(tmp_path / "tags" / "part-*.parquet")
    assert rows["objects"].to_list() == [["cat"], [], []]
    assert rows["status"].to_list() == ["ok", "failed", "empty"]


def test_the_folder_says_where_its_tags_come_from(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps({"a": ["cat"]}))
    assert _import(tmp_path, "--tags", tmp_path / "index.json") == 0
    about = json.loads((tmp_path / "tags" / "manifest.json").read_text())
    assert about["fingerprint"]["parser"] == "imported"
    name, size, digest, _ = about["fingerprint"]["tags"]
    assert (name, size) == ("index.json", 14)
    assert len(digest) == 32
    labels = _labels(tmp_path).path
    [kept] = json.loads(pq.read_metadata(labels).metadata[b"tagalign.tags"])
    assert kept == about["fingerprint"]


def test_pandas_duckdb_and_polars_open_what_was_imported(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps({"a": ["cat", "sofa"], "b": ["dog"]}))
    assert _import(tmp_path, "--tags", tmp_path / "index.json") == 0
    path = str(tmp_path / "tags" / "part-000000.parquet")
    objects = [["cat", "sofa"], ["dog"]]
    assert [list(each) for each in pd.read_parquet(path)["objects"]] == objects
    assert pl.read_parquet(path)["objects"].to_list() == objects
    assert duckdb.sql(f"SELECT objects FROM '{path}'").fetchall() == [(each,) for each in objects]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", '{"a": [0], "b": [1', "is cut off or damaged after 1 images"),
        (
            "x.json",
            '[{"image_path": "a", "tags": ["x"]}, {"ima',
            "cut off or damaged after 1 images",
        ),
        ("x.json", "<html>", "is no JSON"),
        ("x.json", "", "is no JSON"),
        ("x.json", "{}", "there are no images in"),
        ("x.json", '{"a": [1]}', "and LIST names 1 tags: is it the list of that file?"),
        ("x.json", '{"a": [-1]}', "holds the id -1"),
        ("x.json", '{"a": {"b": 1}}', "has no field tags or objects"),
        ("x.jsonl", '{"a": 1}\n{"a": 2}\n', "names no image"),
        ("x.jsonl.gz", "no gzip", "cannot read"),
        ("x.tags", "", "cannot tell the format"),
        ("x.parquet", "PAR1", "cannot read"),
        ("nowhere.json", None, "cannot read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence_and_leaves_nothing(
    tmp_path, capsys, name, text, message
):
    if text is not None:
        (tmp_path / name).write_text(text)
    (tmp_path / "list.txt").write_text("cat\n")
    before = sorted(tmp_path.iterdir())
    flags = ["--tag-list", tmp_path / "list.txt"]
    assert _import(tmp_path, "--tags", tmp_path / name, *flags) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message.replace("LIST", str(tmp_path / "list.txt")) in error
    assert sorted(tmp_path.iterdir()) == before


def test_ids_without_a_list_and_a_folder_that_is_there_are_refused(tmp_path, capsys):
    (tmp_path / "x.json").write_text('{"a": [3]}')
    assert _import(tmp_path, "--tags", tmp_path / "x.json") == 2
    assert "give the list that names them with --tag-list" in capsys.readouterr().err
    (tmp_path / "tags").mkdir()
    (tmp_path / "tags" / "mine").write_text("")
    assert _import(tmp_path, "--tags", tmp_path / "x.json") == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "tags" / "mine").exists()


def test_more_images_than_a_shard_keep_their_captions(tmp_path, monkeypatch):
    monkeypatch.setattr("labels.tag_import.SHARD_ROWS", 3)
    (tmp_path / "x.json").write_text(json.dumps({f"k{i}": [f"t{i % 2}"] for i in range(8)}))
    (tmp_path / "c.tsv").write_text("".join(f"k{i}\tcaption {i}\n" for i in range(7, -1, -1)))
    flags = ["--captions", tmp_path / "c.tsv"]
    assert _import(tmp_path, "--tags", tmp_path / "x.json", *flags) == 0
    assert len(list((tmp_path / "tags").glob("part-*.parquet"))) == 3
    labels = _labels(tmp_path)
    assert labels.captions(range(8)) == [f"caption {i}" for i in range(8)]
