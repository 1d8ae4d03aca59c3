"""What the tests of the CC12M recipe share: image shards exactly as img2dataset 1.47 lays them out."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

URL = "https://images.example/{}.jpg"
SHARD = 4  # --number_sample_per_shard; 4 needs one digit of a key, the shard's number five
CAPTIONS = (
    "a red car on the old bridge",
    '"quoted" start of a caption with a dog',
    'she said "hi" to a black cat',
    "a link that is dead",
    'a "half quote and a lamp',
    "naïve café 😀 with wooden chairs",
    "a plain house",
)
DEAD = 3


@dataclass(frozen=True)
class Crawl:
    """What a crawl starts from and ends with.

    Attributes:
        tsv: CC12M's own layout.
        folder: img2dataset's --output_folder.
    """

    tsv: Path
    folder: Path


def picture(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 255, (16, 24, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).save(sink, "JPEG")
    return sink.getvalue()


def record(number: int) -> dict:
    """A row of the Parquet beside a shard, and the .json beside an image."""
    came = number != DEAD
    return {
        "caption": CAPTIONS[number],
        "url": URL.format(number),
        "key": f"{number // SHARD * 10 + number % SHARD:06d}",
        "status": "success" if came else "failed_to_download",
        "error_message": None if came else "HTTP Error 404: File not found",
        "width": 24 if came else None,
        "height": 16 if came else None,
        "original_width": 48 if came else None,
        "original_height": 32 if came else None,
        "exif": "{}" if came else None,
    }


def write_crawl(root: Path) -> Crawl:
    """Samples stand in the order in which they came, jpg, json, txt; dead links only in the Parquet."""
    folder = root / "cc12m"
    folder.mkdir(parents=True)
    tsv = root / "cc12m.tsv"
    lines = [f"{URL.format(n)}\t{caption}\n" for n, caption in enumerate(CAPTIONS)]
    tsv.write_text("".join(lines), "utf-8")
    for shard, numbers in enumerate(([1, 3, 0, 2], [6, 5, 4])):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in numbers:
                about = record(number)
                if number == DEAD:
                    continue
                for ending, content in (
                    ("jpg", picture(number)),
                    ("json", json.dumps(about, indent=4).encode()),
                    ("txt", CAPTIONS[number].encode()),
                ):
                    info = tarfile.TarInfo(f"{about['key']}.{ending}")
                    info.size, info.mode = len(content), 0o444
                    info.uname = info.gname = "bigdata"
                    tar.addfile(info, io.BytesIO(content))
        pq.write_table(
            pa.Table.from_pylist([record(n) for n in numbers]), folder / f"{shard:05d}.parquet"
        )
        (folder / f"{shard:05d}_stats.json").write_text('{"count": 4}')
    return Crawl(tsv, folder)


@pytest.fixture
def crawl(tmp_path: Path) -> Crawl:
    return write_crawl(tmp_path)
