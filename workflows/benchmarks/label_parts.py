"""The measurements of `labels.py`, one per process: `PART TAGS OUT`; the last line printed is JSON."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from workflows.benchmarks.measuring import resident

K = 10_000
LOOKUPS = 200_000
ENCODINGS = ("PLAIN", "RLE_DICTIONARY", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT")


def bare(tags: Path, out: Path) -> dict:
    start = time.perf_counter()
    rows = pl.scan_parquet(tags / "part-*.parquet")
    objects = rows.select(tag=pl.col("objects").explode())
    attributes = rows.select(tag=pl.col("attributes").explode().struct.field("attribute"))
    counted = [query.group_by("tag").agg(pl.len()) for query in (objects, attributes)]
    pl.collect_all(counted, engine="streaming")
    return {"seconds": time.perf_counter() - start}


def count(tags: Path, out: Path) -> dict:
    from labels.build import count_tags
    from labels.counting import choose, rank
    from labels.execution import InProcess
    from labels.tag_folders import open_tag_folders
    from labels.vocabulary import KINDS

    start = time.perf_counter()
    counted = count_tags(open_tag_folders([str(tags)]), KINDS, {}, InProcess())
    choose(rank(counted, [], 1), dict.fromkeys(KINDS, K), counted.captions)
    return {"seconds": time.perf_counter() - start}


def build(tags: Path, out: Path) -> dict:
    """The command as it is typed, interpreter and picture included."""
    start = time.perf_counter()
    line = [sys.executable, "labels/build_vocab.py", "--tags", tags, "--out", out, "--k", str(K)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - start}


def sizes(tags: Path, out: Path) -> dict:
    """Bytes of the ids alone in each encoding, uncompressed and with zstd, and of the file's columns."""
    footer = pq.read_metadata(out)
    found = {"file": out.stat().st_size, "footer": footer.serialized_size}
    for number, name in enumerate(("key", "caption", "tag_ids")):
        groups = (footer.row_group(i) for i in range(footer.num_row_groups))
        found[name] = sum(group.column(number).total_compressed_size for group in groups)
    # Like the file itself: one row group at a time, each encoded on its own.
    encodings = dict.fromkeys((f"{e} {c}" for e in ENCODINGS for c in ("none", "zstd")), 0)
    with pq.ParquetFile(out) as file:
        for group in range(footer.num_row_groups):
            table = file.read_row_group(group, columns=["tag_ids"])
            for name in encodings:
                encodings[name] += _encoded(table, *name.split())
    return found | {"encodings": encodings, "seconds": 0}


def _encoded(table: pa.Table, encoding: str, compression: str) -> int:
    sink = pa.BufferOutputStream()
    options = {
        "compression": compression,
        "compression_level": 3 if compression == "zstd" else None,
    }
    if encoding == "RLE_DICTIONARY":
        pq.write_table(table, sink, use_dictionary=True, **options)
    else:
        columns = {"tag_ids.list.element": encoding}
        pq.write_table(table, sink, use_dictionary=False, column_encoding=columns, **options)
    footer = pq.read_metadata(pa.BufferReader(sink.getvalue()))
    groups = (footer.row_group(i) for i in range(footer.num_row_groups))
    return sum(group.column(0).total_compressed_size for group in groups)


def reader(tags: Path, out: Path) -> dict:
    from labels.reader import Labels

    shutil.rmtree(f"{out}.csr", ignore_errors=True)
    found: dict = {"seconds": 0}
    with _Peak() as peak:
        found["first"], _ = _timed(lambda: Labels(out))
    found["building"] = peak.anonymous
    script = "import sys; from workflows.benchmarks.label_parts import read_again; read_again(sys.argv[1])"
    again = subprocess.run(
        [sys.executable, "-c", script, str(out)], check=True, capture_output=True
    )
    return found | json.loads(again.stdout)


def read_again(path: str) -> None:
    """In a fresh process, as a trainer's: open, look keys up, take batches and the whole CSR view."""
    from labels.reader import Labels

    with _Peak() as peak:
        later, labels = _timed(lambda: Labels(path))
        rng = random.Random(0)
        keys = labels.keys([rng.randrange(len(labels)) for _ in range(LOOKUPS)])
        single, _ = _timed(lambda: [labels[key] for key in keys])
        batches = [keys[at : at + 1024] for at in range(0, LOOKUPS, 1024)]
        batched, _ = _timed(lambda: [labels.rows(labels.positions(batch)) for batch in batches])
        labels.csr()
    found = {"images": len(labels), "later": later}
    found |= {"anonymous": peak.anonymous, "mapped": peak.mapped}
    print(json.dumps(found | {"single": LOOKUPS / single, "batched": LOOKUPS / batched}))


def ours(tags: Path, out: Path) -> dict:
    from labels.build import build, count_tags
    from labels.counting import choose, rank
    from labels.execution import InProcess
    from labels.images import batches_of
    from labels.labelling import ids_by_tag, label_row_groups
    from labels.settings import Settings
    from labels.tag_folders import open_tag_folders
    from labels.vocabulary import KINDS

    start = time.perf_counter()
    runs = open_tag_folders([str(tags)])
    counted = count_tags(runs, KINDS, {}, InProcess())
    vocabulary = choose(rank(counted, [], 1), dict.fromkeys(KINDS, K), counted.captions)
    groups = [batch.row_groups for batch in batches_of(runs[0])]
    frames = list(InProcess()(label_row_groups, groups, ids_by_tag(vocabulary, {})))
    labels = time.perf_counter() - start
    digest = _digest(pl.concat(frames)["tag_ids"].to_list())
    written, _ = _timed(
        lambda: build(Settings(tags=(str(tags),), out=str(out), k=K), lambda _: None)
    )
    return {"seconds": written, "labels": labels, "written": written, "digest": digest}


def python(tags: Path, out: Path) -> dict:
    """A Counter, dictionaries, and a JSON file of captions to ids."""
    start = time.perf_counter()
    objects, attributes, captions = Counter(), Counter(), []
    for file in sorted(tags.glob("part-*.parquet")):
        for row in pq.read_table(file, columns=["objects", "attributes"]).to_pylist():
            own = set(row["objects"]), {pair["attribute"] for pair in row["attributes"]}
            objects.update(own[0])
            attributes.update(own[1])
            captions.append(own)
    tag_ids: list[dict[str, int]] = []  # of objects, and of attributes
    for counts in (objects, attributes):
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:K]
        tag_ids.append({tag: i for i, (tag, _) in enumerate(most, sum(map(len, tag_ids)))})
    ids = [
        sorted(
            known[tag]
            for known, tags in zip(tag_ids, own, strict=True)
            for tag in tags & known.keys()
        )
        for own in captions
    ]
    labels = time.perf_counter() - start
    with open(out.with_suffix(".json"), "w") as file:
        json.dump(dict(enumerate(ids)), file)
    written = time.perf_counter() - start
    return {"seconds": written, "labels": labels, "written": written, "digest": _digest(ids)}


def pandas(tags: Path, out: Path) -> dict:
    import pandas as pd

    start = time.perf_counter()
    columns = ["caption_id", "objects", "attributes"]
    files = sorted(tags.glob("part-*.parquet"))
    rows = pd.concat([pd.read_parquet(f, columns=columns) for f in files], ignore_index=True)
    tables, first = [], 0
    for column in ("objects", "attributes"):
        tag = rows[["caption_id", column]].explode(column).dropna()
        if column == "attributes":
            tag[column] = tag[column].str["attribute"]
        tag = tag.rename(columns={column: "tag"}).drop_duplicates()
        counts = tag.groupby("tag").size().reset_index(name="count")
        top = counts.sort_values(["count", "tag"], ascending=[False, True]).head(K)
        top["tag_id"] = range(first, first + len(top))
        first += len(top)
        tables.append(tag.merge(top, on="tag"))
    joined = pd.concat(tables).sort_values(["caption_id", "tag_id"])
    ids = joined.groupby("caption_id")["tag_id"].agg(list)
    rows["tag_ids"] = rows["caption_id"].map(ids)
    labels = time.perf_counter() - start
    rows[["caption_id", "tag_ids"]].to_parquet(out.with_name("pandas.parquet"))
    written = time.perf_counter() - start
    digest = _digest([row if isinstance(row, list) else [] for row in rows["tag_ids"]])
    return {"seconds": written, "labels": labels, "written": written, "digest": digest}


def _digest(ids: list[list[int]]) -> str:
    flat = np.fromiter((i for row in ids for i in (-1, *row)), dtype=np.int32)
    return xxhash.xxh3_128_hexdigest(flat.tobytes())


def _timed(call) -> tuple[float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


class _Peak:
    """Samples this process's memory in MB: anonymous pages are private, mapped files are shared."""

    anonymous = mapped = 0.0

    def __enter__(self) -> _Peak:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while True:
            self.anonymous = max(self.anonymous, resident("RssAnon") / 1e6)
            self.mapped = max(self.mapped, resident("RssFile") / 1e6)
            if self._done.wait(0.02):
                return

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


PARTS = {
    "bare": bare, "count": count, "build": build, "sizes": sizes, "reader": reader,
    "ours": ours, "python": python, "pandas": pandas,
}  # fmt: skip


if __name__ == "__main__":
    part, tags, out = sys.argv[1:]
    os.makedirs(Path(out).parent, exist_ok=True)
    print(json.dumps(PARTS[part](Path(tags), Path(out))))
