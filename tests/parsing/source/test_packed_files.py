"""Compressed files of captions, and how damage to them is told."""

from __future__ import annotations

import pytest

from common.errors import UserError
from parsing.source.readers import Row
from tests.parsing.source.packing import PACKERS
from tests.parsing.source.reading import read


@pytest.mark.parametrize("ending", PACKERS)
def test_a_compressed_tsv_reads_like_itself(tmp_path, ending):
    path = tmp_path / f"captions.tsv{ending}"
    path.write_bytes(PACKERS[ending](b"u1\tone\n" * 1000))
    assert read(path) == [Row("u1", "one")] * 1000


@pytest.mark.parametrize("ending", PACKERS)
def test_a_truncated_or_damaged_compressed_file_is_told(tmp_path, ending):
    path = tmp_path / f"captions.tsv{ending}"
    lines = (f"u{n}\ta dog and {n * 7919} cats\n".encode() for n in range(9999))
    packed = PACKERS[ending](b"".join(lines))
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"cannot read .*captions.tsv"):
        read(path)
    # In the middle only where the format has check sums; else as much as makes no sense.
    at = len(packed) // 2 if ending in (".gz", ".bz2", ".xz") else 0
    path.write_bytes(packed[:at] + b"\xff" * 100 + packed[at + 100 :])
    with pytest.raises(UserError, match=r"cannot read .*captions.tsv"):
        read(path)
