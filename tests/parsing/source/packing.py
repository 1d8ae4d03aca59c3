"""Every compression that inputs may have, for the tests of several modules."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pyarrow as pa


def _zstd(data: bytes) -> bytes:
    return _arrow(data, "zstd")


def _lz4(data: bytes) -> bytes:
    return _arrow(data, "lz4")


def _arrow(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": _zstd,
    ".lz4": _lz4,
}
