"""Sources: which files are read, in which order, and what tells them apart."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from common.flags import given
from parsing.run import parse_flags
from parsing.source.readers import Row, Source
from tests.parsing.source.reading import read, sample, tar


def test_files_are_read_in_the_order_given_and_sorted_within_a_glob(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.tsv").write_text(f"{name}\tcaption {name}\n")
    rows = read(tmp_path / "c.tsv", tmp_path / "[ab].tsv")
    assert [row.key for row in rows] == ["c", "a", "b"]


def test_captions_that_are_named_several_times_are_joined_and_replace_the_default():
    for flags in (["a", "--captions", "b", "c"], ["a", "b", "--captions", "c"]):
        source = Source(**given(parse_flags(["--captions", *flags]), Source))
        assert source.paths == ("a", "b", "c")
    assert Source(**given(parse_flags([]), Source)).paths == ("data/captions",)


def test_a_file_that_is_named_twice_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.tsv").write_text("https://a/1\ta dog\n")
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for again in ("a.tsv", "*.tsv", tmp_path, "link/a.tsv", f"file://{tmp_path}/a.tsv"):
        with pytest.raises(UserError, match="is named twice: name every input once"):
            read("a.tsv", again)
    with pytest.raises(UserError, match="is named twice"):
        read("hf:.", "hf:.")


def test_a_format_can_be_given_where_the_name_does_not_tell(tmp_path):
    path = tmp_path / "captions.dat"
    path.write_text("u1\tone\n")
    assert read(path, format="tsv") == [Row("u1", "one")]
    with pytest.raises(UserError, match=r"cannot read .*captions.dat \(damaged, .* another format"):
        read(path, format="parquet")


def test_a_remote_file_is_read_like_a_local_one(tmp_path, memory):
    tar(tmp_path / "a.tar", sample("1", "one"))
    pq.write_table(pa.table({"caption": ["two"]}), tmp_path / "b.parquet")
    memory.pipe_file("/far/a.tar", (tmp_path / "a.tar").read_bytes())
    memory.pipe_file("/far/b.parquet", (tmp_path / "b.parquet").read_bytes())
    memory.pipe_file("/far/c.tsv.gz", gzip.compress(b"u3\tthree\n"))
    rows = read("memory://far/a.tar", "memory://far/b.parquet", "memory://far/*.gz")
    assert [row.caption for row in rows] == ["one", "two", "three"]
    with pytest.raises(UserError, match=r"there are no captions at memory://far/d.tsv"):
        read("memory://far/d.tsv")


def test_the_identity_is_that_of_the_files_and_of_how_they_are_read(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.tsv").write_text("u\tone\n")
    source = Source((str(tmp_path / "old" / "*.tsv"),))
    identity = source.identity()
    assert str(tmp_path) not in json.dumps(identity)
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    assert Source(("a.tsv",)).identity() == identity
    assert Source(("a.tsv",), caption_column="alt").identity() != identity
    (tmp_path / "new" / "a.tsv").write_text("u\tone more\n")
    assert Source(("a.tsv",)).identity() != identity
    assert Source(("a.tsv",), format="tsv").identity() == Source(("a.tsv",)).identity()
    assert Source((f"hf:{tmp_path}/new",)).identity() == Source(("hf:.",)).identity()
    assert Source(("hf:.",)).identity() != Source(("hf:.",), split="test").identity()
