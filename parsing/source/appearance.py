"""What a file seems to be that cannot be read as what its name says."""

from __future__ import annotations

import codecs

import fsspec

from parsing.source.files import opened

# How a file begins that is not what its name says, and what to do.
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer: fetch the file itself with `git annex get`",
    b"PAR1": "a Parquet file: give --format parquet",
    b"\x1f\x8b": "packed by gzip: its name must end in .gz",
    b"BZh": "packed by bzip2: its name must end in .bz2",
    b"\xfd7zXZ": "packed by xz: its name must end in .xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd: its name must end in .zst",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"ARROW1": "an Arrow file: convert it to Parquet",
    b"<?xml": "XML, as an object store's error message: download the file again",
    b"<error>": "an error message in XML: download the file again",
    b"<!doctype html": "a web page: download the file again",
    b"<html": "a web page: download the file again",
}


def looks_like(path: str, format: str | None) -> str | None:
    """What a file seems to be that cannot be read in its format, as a sentence; None if nothing else."""
    try:
        with opened(path) as file:
            data = file.read(1 << 14)
    except Exception:  # the file system's or the codec's own
        try:
            with fsspec.open(path, "rb") as file:
                data = file.read(1 << 14)
        except Exception:
            return None
    what = _guess(data, format)
    return None if what is None else f"it looks like {what}"


def _guess(data: bytes, format: str | None) -> str | None:
    text = data.removeprefix(codecs.BOM_UTF8).lstrip()
    for beginning, what in _BEGINNINGS.items():
        found = text[: len(beginning)]
        if found == beginning or (beginning.islower() and found.lower() == beginning):
            return None if format == "parquet" and beginning == b"PAR1" else what
    if data[257:262] == b"ustar" and format != "webdataset":
        return "a tar archive: give --format webdataset"
    if text.startswith(b"[") and b"{" in text[:100]:
        return "one JSON array: write one object a line"
    if b".git/annex/objects/" in text[:1000].partition(b"\n")[0]:
        return _BEGINNINGS[b"/annex/objects/"]
    if text.startswith(b"{"):
        if b"{" in text.partition(b"\n")[0].rstrip().removesuffix(b"{"):
            return None if format == "jsonl" else "JSON lines: give --format jsonl"
        return "JSON over several lines: write one object a line"
    if b"\0" in data:
        return "UTF-16 or no text at all: convert it to UTF-8" if format != "webdataset" else None
    lines = [line for line in text.splitlines()[:20] if line.strip()]
    if not lines or format in ("parquet", "webdataset"):
        return None
    tabs = [line.count(b"\t") for line in lines]
    if not any(tabs) and all(b"," in line for line in lines[:3]):
        return "a CSV: convert it to TSV or Parquet"
    if min(tabs) > 1 and format == "tsv":
        columns = "a header that names them, such as url<TAB>caption"
        return f"a table of {tabs[0] + 1} columns: keep two of them, or give it {columns}"
    if min(tabs) > 0 and format != "tsv":
        return "TSV: give --format tsv"
    return "lines of plain text: TSV has two columns, url<TAB>caption" if not any(tabs) else None
