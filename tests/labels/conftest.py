"""Small tags folders, written as `parsing/run.py` writes them or as people bring them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labels.build import build
from labels.label_file import LABELS, LabelWriter
from labels.settings import Settings
from labels.vocabulary import Vocabulary
from parsing.source.captions import INDEX
from parsing.tags import TAGS


def _row(caption_id: int, row: dict) -> dict:
    pairs = row.get("attributes", [])
    attributes = None if pairs is None else [
        pair and {"attribute": pair[0], "object": pair[1]} for pair in pairs
    ]  # fmt: skip
    return {
        "caption_id": row.get("caption_id", caption_id),
        "caption": row.get("caption", f"caption {caption_id}"),
        "objects": row.get("objects", []),
        "attributes": attributes,
        "status": row.get("status", "ok"),
        "error": None,
        "raw": None,
    }


@pytest.fixture(scope="session")
def write_tags():
    """Writes rows `{"objects": [...], "attributes": [(attribute, object), ...]}` as tag shards."""

    def write(
        folder: Path, rows: Sequence[dict], shards: int = 1, order: Sequence[int] | None = None
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        full = [_row(i, row) for i, row in enumerate(rows)]
        full = [full[i] for i in order] if order is not None else full
        for number, part in enumerate(np.array_split(np.arange(len(full)), shards)):
            # Files of other people may hold nulls where the contract has none.
            loose = pa.schema([field.with_nullable(True) for field in TAGS])
            table = pa.Table.from_pylist([full[i] for i in part], schema=loose)
            pq.write_table(table, folder / f"part-{number:06d}.parquet")
        return folder

    return write


@pytest.fixture(scope="session")
def write_run(write_tags):
    """The same with the manifest, stats and index of a run; `images` are (key, caption id)."""

    def write(
        folder: Path,
        rows: Sequence[dict],
        images: Sequence[tuple[str, int]],
        shards: int = 1,
        index_files: int = 1,
        order: Sequence[int] | None = None,
    ) -> Path:
        write_tags(folder, rows, shards, order)
        for number in range(shards):
            (folder / f"part-{number:06d}.json").write_text("{}")
        (folder / "index").mkdir(exist_ok=True)
        for number, part in enumerate(np.array_split(np.arange(len(images)), index_files)):
            chosen = [{"key": images[i][0], "caption_id": images[i][1]} for i in part]
            table = pa.Table.from_pylist(chosen, schema=INDEX)
            pq.write_table(table, folder / "index" / f"part-{number:06d}.parquet")
        done = {"images": len(images), "captions": len(rows), "malformed": 0, "shards": shards}
        (folder / "captions").mkdir(exist_ok=True)
        (folder / "captions" / "done.json").write_text(json.dumps({"counts": done}))
        (folder / "manifest.json").write_text(json.dumps({"finished": True, "shards": shards}))
        return folder

    return write


@pytest.fixture(scope="session")
def write_labels():
    """Writes rows (key, caption, tag ids) as a label file over tags of the given counts."""

    def write(path: Path, rows: Sequence[tuple], counts: Sequence[int] = (5, 3, 2)) -> Path:
        tags = [f"tag {i}" for i in range(len(counts))]
        kinds = ["object"] * (len(tags) - 1) + ["attribute"]
        vocabulary = Vocabulary(tags, kinds, np.array(counts), captions=10)
        columns = dict(zip(LABELS.names, map(list, zip(*rows, strict=True)), strict=True))
        with LabelWriter(path, vocabulary) as writer:
            writer.write(pa.table(columns, schema=LABELS))
        return path

    return write


@pytest.fixture(scope="session")
def run_build():
    """Builds without picture and page, which take longer than everything else together."""

    def run(path, **flags):
        notes = []
        with mock.patch("labels.build.draw", return_value=b"png"):
            given = {"out": str(path), "page": False} | flags
            summary, covered = build(Settings(**given), notes.append)
        return summary, covered, notes

    return run


GIRL = {
    "caption": "a young girl on a wooden bed",
    "objects": ["girl", "bed"],
    "attributes": [("young", "girl"), ("wooden", "bed")],
}
CAR = {
    "caption": "a red car beside a red wall",
    "objects": ["car", "wall"],
    "attributes": [("red", "car"), ("red", "wall")],
}
DOG = {
    "caption": "a young dog and a girl",
    "objects": ["dog", "girl"],
    "attributes": [("young", "dog")],
}
NOTHING = {"caption": "untitled", "status": "empty"}


@pytest.fixture(scope="session")
def captions() -> list[dict]:
    """Four captions: girl is in two of them, red twice in one, and the last has no tag at all."""
    return [GIRL, CAR, DOG, NOTHING]
