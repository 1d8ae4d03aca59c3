"""An input is the same where its contents are, wherever it lies and whenever it was written."""

from __future__ import annotations

import os
import shutil

import pytest

from parsing.source.identity import WHOLE, data_set_identity, file_identity
from parsing.source.readers import Source


def test_a_file_that_is_rewritten_at_the_same_size_is_another_input(tmp_path):
    path = tmp_path / "in.tsv"
    path.write_text("u\ta table\n")
    before = Source((str(path),)).identity()
    time = path.stat().st_mtime_ns
    path.write_text("u\ta piano\n")
    os.utime(path, ns=(time, time))
    assert Source((str(path),)).identity() != before


def test_files_of_one_name_and_size_that_are_swapped_are_another_input(tmp_path):
    for name, text in (("a", "table"), ("b", "piano")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.tsv").write_text(f"u\ta {text}\n")
    paths = [str(tmp_path / name / "0.tsv") for name in "ab"]
    assert Source(tuple(paths)).identity() != Source(tuple(reversed(paths))).identity()


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large.tsv"
    path.write_bytes(os.urandom(WHOLE + 12_345))
    return path


@pytest.mark.parametrize("place", [0, -1])
def test_a_large_file_that_changed_at_its_start_or_end_is_another_input(large, place):
    before, time = file_identity(str(large)), large.stat().st_mtime_ns
    data = bytearray(large.read_bytes())
    data[place] ^= 1
    large.write_bytes(data)
    os.utime(large, ns=(time, time))
    assert file_identity(str(large))[2] != before[2]


def test_a_large_file_that_changed_between_the_samples_is_another_input_by_its_time(large):
    before = file_identity(str(large))
    data = bytearray(large.read_bytes())
    data[100_000] ^= 1
    large.write_bytes(data)
    os.utime(large, (1, 1))
    after = file_identity(str(large))
    assert after[:3] == before[:3]
    assert after != before


def test_small_files_are_the_same_when_copied_and_large_ones_when_moved(large, tmp_path):
    small = tmp_path / "small.tsv"
    small.write_text("u\tone\n")
    before = file_identity(str(small)), file_identity(str(large))
    (tmp_path / "new").mkdir()
    shutil.copyfile(small, tmp_path / "new" / small.name)
    large.rename(tmp_path / "new" / large.name)
    assert (
        file_identity(f"{tmp_path}/new/{small.name}"),
        file_identity(f"{tmp_path}/new/{large.name}"),
    ) == before


def test_a_remote_file_has_an_identity_too(memory):
    memory.pipe_file("/far/a.tsv", b"u\tone\n")
    before = file_identity("memory://far/a.tsv")
    memory.pipe_file("/far/a.tsv", b"u\ttwo\n")
    assert file_identity("memory://far/a.tsv")[:2] == before[:2] == ["a.tsv", 6]
    assert file_identity("memory://far/a.tsv") != before


def test_the_tag_of_an_object_stands_for_its_content(memory, monkeypatch):
    memory.pipe_file("/far/a.tsv", b"u\tone\n")
    info = {"name": "/far/a.tsv", "size": 6, "type": "file", "ETag": '"1"'}
    monkeypatch.setattr(type(memory), "info", lambda self, path, **kwargs: info)
    monkeypatch.setattr(type(memory), "open", lambda *args, **kwargs: pytest.fail("it was read"))
    assert file_identity("memory://far/a.tsv") == ["a.tsv", 6, None, '"1"']


def test_a_local_data_set_is_the_same_by_its_files(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"caption": "a table"}\n')
    (folder / "1.png").write_bytes(b"x")
    before = data_set_identity(f"hf:{folder}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("not data")
    shutil.copytree(folder, tmp_path / "moved" / "set")
    assert data_set_identity(f"hf:{tmp_path}/moved/set") == before
    (folder / "train.jsonl").write_text('{"caption": "a piano"}\n')
    assert data_set_identity(f"hf:{folder}") != before
    assert data_set_identity(f"hf:{folder}:config")[0] == "hf:set:config"
