"""Published folders open in what people use, and tell what is in them."""

from __future__ import annotations

import json

import datasets
import duckdb
import huggingface_hub
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import yaml

from labels.build import build
from labels.label_file import SCORED_LABELS, LabelWriter, read_footer
from labels.settings import Settings
from tests.labels.conftest import captions, write_run, write_tags  # noqa: F401
from workflows.publish import main
from workflows.publishing.data_set import write_shards

IMAGES = [("u1", 0), ("u2", 1), ("u3", 0), ("u4", 2), ("u5", 3)]


@pytest.fixture
def run(tmp_path, write_run, captions):  # noqa: F811
    folder = write_run(tmp_path / "tags", captions, IMAGES, shards=2)
    manifest = {
        "finished": True,
        "shards": 2,
        "fingerprint": {"parser": "llm", "model": "org/model", "prompt": "0123|abc", "form": None},
        "versions": {"tagalign": "0.1.0"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    build(Settings(tags=(str(folder),), out=str(tmp_path / "x.parquet"), k=2, page=False))
    return folder


SCORES = {"golds": [{"name": "web_dev", "captions": 500, "parsers": [{
    "name": "llm", "objects": {"f1": {"value": 0.84, "low": 0.81, "high": 0.86}},
    "attributes": {"f1": {"value": None}}}]}]}  # fmt: skip


def _publish(tmp_path, run, *flags) -> int:
    labels = ["--labels", str(tmp_path / "x.parquet")]
    return main(["--tags", str(run), "--to", str(tmp_path / "set"), *labels, *flags])


def test_the_folder_opens_with_datasets_part_by_part(tmp_path, run, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert _publish(tmp_path, run) == 0
    load = lambda *name: datasets.load_dataset(  # noqa: E731
        str(tmp_path / "set"), *name, split="train", cache_dir=str(tmp_path / "cache")
    )
    tags = load()
    assert tags.column_names == ["caption_id", "caption", "objects", "attributes", "status"]
    assert tags[0]["objects"] == ["girl", "bed"]
    assert tags[0]["attributes"][0] == {"attribute": "young", "object": "girl"}
    assert load("images")["key"][:3] == ["u1", "u2", "u3"]
    labels, vocabulary = load("labels"), load("vocabulary")
    assert [labels["key"][n] for n in (0, 2)] == ["u1", "u3"]
    assert labels["tag_ids"][0] == labels["tag_ids"][2]
    assert [vocabulary["tag"][i] for i in labels["tag_ids"][0]] == ["girl", "bed", "young"]


def test_duckdb_polars_and_pandas_open_every_part(tmp_path, run):
    assert _publish(tmp_path, run, "--raw") == 0
    for part, rows in {"tags": 4, "images": 5, "labels": 5, "vocabulary": 4}.items():
        files = str(tmp_path / "set" / part / "*.parquet")
        assert duckdb.sql(f"SELECT count(*) FROM '{files}'").fetchall() == [(rows,)]
        assert pl.read_parquet(files).height == rows
        assert len(pd.read_parquet(tmp_path / "set" / part)) == rows
    assert "raw" in pl.read_parquet(tmp_path / "set" / "tags" / "*.parquet").columns


def test_scores_of_checked_labels_are_published_too(tmp_path, run):
    vocabulary = read_footer(tmp_path / "x.parquet")[2]
    columns = [["u1"], ["a girl"], [[0, 2]], [np.array([0.5, 0.25], np.float16)]]
    with LabelWriter(tmp_path / "x.parquet", vocabulary, {"model": "tiny"}) as writer:
        writer.write(pa.table(columns, schema=SCORED_LABELS))
    assert _publish(tmp_path, run) == 0
    files = str(tmp_path / "set" / "labels" / "*.parquet")
    assert duckdb.sql(f"SELECT key, scores FROM '{files}'").fetchall() == [("u1", [0.5, 0.25])]
    assert "`scores` list of float16" in (tmp_path / "set" / "README.md").read_text()


def test_the_card_tells_schema_counts_coverage_parser_licence_and_scores(tmp_path, run):
    (tmp_path / "scores.json").write_text(json.dumps(SCORES))
    flags = [
        "--scores",
        str(tmp_path / "scores.json"),
        "--licence",
        "cc-by-4.0",
        "--source",
        "CC12M",
    ]
    assert _publish(tmp_path, run, *flags) == 0
    _, header, page = (tmp_path / "set" / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["license"] == "cc-by-4.0"
    assert header["size_categories"] == "n<1K"
    assert [each["config_name"] for each in header["configs"]] == [
        "tags", "images", "labels", "vocabulary",
    ]  # fmt: skip
    for line in (
        "| objects | 6 | 5 | 2 | 50.00% | girl (2), bed (1), car (1), dog (1), wall (1) |",
        "| model | org/model |",
        "| prompt | 0123\\|abc |",
        "| web_dev | 500 | llm | 0.840 [0.810, 0.860] | - | - |",
        "4 of 5 images have at least one label",
        "Captions: CC12M. Their licence: `cc-by-4.0`.",
        "ok 3, empty 1.",
    ):
        assert line in page


def test_large_parts_are_cut_into_numbered_files(tmp_path, monkeypatch):
    monkeypatch.setattr("workflows.publishing.data_set.GROUP_ROWS", 10)
    table = pl.DataFrame({"n": range(95)}).to_arrow()
    tables = [table.slice(start, 5) for start in range(0, 95, 5)]
    assert write_shards(tmp_path / "part", tables, table.schema, most_bytes=1) == 95
    names = sorted(path.name for path in (tmp_path / "part").iterdir())
    assert names[0] == "train-00000-of-00010.parquet"
    assert len(names) == 10
    assert pl.read_parquet(tmp_path / "part" / "*.parquet")["n"].to_list() == list(range(95))


def test_without_a_token_the_folder_stays_and_the_same_call_uploads_it_later(
    tmp_path, run, monkeypatch, capsys
):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert _publish(tmp_path, run, "--repo", "me/tags") == 0
    assert "not uploaded, as there is no token" in capsys.readouterr().out
    written = (tmp_path / "set" / "README.md").stat().st_mtime_ns
    sent = []

    class Hub:
        def create_repo(self, repo, **about):
            sent.append((repo, about["repo_type"]))
            return f"https://hub/{repo}"

        def upload_folder(self, **about):
            if len(sent) == 1:
                raise OSError("connection lost")
            sent.append((about["repo_id"], about["folder_path"]))

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert _publish(tmp_path, run, "--repo", "me/tags") == 2
    assert "run the same command again" in capsys.readouterr().err
    assert _publish(tmp_path, run, "--repo", "me/tags") == 0
    assert sent[-1] == ("me/tags", str(tmp_path / "set"))
    assert (tmp_path / "set" / "README.md").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to", "TMP/set", "--tags", "TMP/nowhere"], "there is no tags folder"),
        (["--to", "TMP/x.parquet"], "is a file"),
        (["--to", "TMP"], "holds something else already"),
        (["--repo", "tags"], "--repo is OWNER/NAME"),
        ([], "neither --to FOLDER nor --repo"),
        (["--to", "TMP/set", "--labels", "TMP/no.parquet"], "there is no label file"),
        (["--to", "TMP/set", "--scores", "TMP/tags/manifest.json"], "is no scores.json"),
        (["--to", "s3://bucket/x"], "is a folder on this machine"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path, run, capsys, flags, message):
    before = sorted(tmp_path.iterdir())
    flags = [each.replace("TMP", str(tmp_path)) for each in flags]
    assert main(["--tags", str(run), *flags] if "--tags" not in flags else flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.iterdir()) == before
