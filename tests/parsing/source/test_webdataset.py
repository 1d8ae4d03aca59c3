"""Webdataset tars: which file of a sample is the caption, what is hidden, and what is cut off."""

from __future__ import annotations

import contextlib
import gzip
import json
import tarfile

import pytest

from common.errors import UserError
from parsing.source import readers
from parsing.source.files import opened
from parsing.source.readers import Row, Source
from tests.parsing.source.test_values import read, write_tar


@pytest.mark.parametrize("ending", ["txt", "TXT", "caption", "cap", "text"])
def test_usual_endings_of_captions_are_known_in_any_case(tmp_path, ending):
    path = write_tar(tmp_path / "a.tar", [("1.JPG", b"x"), (f"1.{ending}", b"a dog\n")])
    assert read(path) == [Row("1", "a dog")]


@pytest.mark.parametrize("name", ["outputs.txt", ".outputs.txt", "Outputs.TXT"])
def test_another_ending_is_named_by_the_caption_column(tmp_path, name):
    members = [("1.jpg", b"x"), ("1.outputs.txt", b"a dog"), ("1.txt", b"other"), ("1.json", b"{}")]
    path = write_tar(tmp_path / "a.tar", members)
    assert read(path) == [Row("1", "other")]
    assert read(path, caption_column=name) == [Row("1", "a dog")]


def test_endings_that_were_found_are_named_where_no_caption_is(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"x"), ("1.outputs.txt", b"a dog")])
    [row] = read(path)
    assert row.problem == (
        "no .txt and no .json beside the image, but .outputs.txt: name one with --caption-column"
    )
    with pytest.raises(UserError, match=r"1 of the first 1 rows of .* but \.outputs\.txt"):
        list(Source((str(path),)).checked_rows())


def test_a_field_of_the_json_is_the_key_where_it_is_asked_for(tmp_path):
    record = json.dumps({"url": "https://a/1", "key": "0001", "caption": ["one", "uno"]}).encode()
    path = write_tar(tmp_path / "a.tar", [("1.json", record), ("2.txt", b"two"), ("2.json", b"{}")])
    assert read(path) == [Row("1", "one"), Row("1", "uno"), Row("2", "two")]
    assert read(path, key_column="url") == [
        Row("https://a/1", "one"),
        Row("https://a/1", "uno"),
        Row("2", "", "no .json beside it that holds the field url"),
    ]


def test_hidden_and_system_files_are_no_samples(tmp_path):
    names = ["./0/1.jpg", "./0/._1.jpg", "./0/._1.txt", "__MACOSX/0/._1.txt", "README", ".DS_Store"]
    names += ["__pycache__.txt", "./0/.cache/x.txt", "README.txt", "0/LICENSE.md", "readme_en.txt"]
    members = [(name, b"x") for name in names] + [("./0/1.txt", b"one")]
    assert read(write_tar(tmp_path / "a.tar", members)) == [Row("./0/1", "one")]


def test_a_name_that_begins_like_a_read_me_s_is_a_sample(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("noticeboard_1.txt", b"a board")])
    assert read(path) == [Row("noticeboard_1", "a board")]


def test_two_samples_of_one_name_that_stand_together_are_two(tmp_path):
    members = [(f"1.{ending}", text) for text in (b"a dog", b"a cat") for ending in ("jpg", "txt")]
    assert read(write_tar(tmp_path / "a.tar", members)) == [Row("1", "a dog"), Row("1", "a cat")]


@pytest.fixture
def whole(tmp_path):
    members = [(f"{n}.{ending}", b"a dog" * 300) for n in range(6) for ending in ("jpg", "txt")]
    return write_tar(tmp_path / "a.tar", members)


def test_a_tar_cut_at_the_border_of_a_file_is_an_error(whole):
    with tarfile.open(whole) as archive:
        border, last = archive.getmember("3.jpg").offset, archive.getmember("5.txt")
    data = whole.read_bytes()
    for end in (border, last.offset_data + -(-last.size // 512) * 512):
        whole.write_bytes(data[:end])
        with pytest.raises(UserError, match=r"cannot read .*: the mark of its end is missing"):
            read(whole)
    whole.with_suffix(".tar.gz").write_bytes(gzip.compress(data[:border]))
    with pytest.raises(UserError, match="the mark of its end is missing"):
        read(whole.with_suffix(".tar.gz"))


def test_a_hole_in_a_tar_is_an_error(whole):
    with tarfile.open(whole) as archive:
        at = archive.getmember("3.jpg").offset
    data = bytearray(whole.read_bytes())
    data[at : at + 2048] = bytes(2048)
    whole.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot read .*: there is data after the mark of its end"):
        read(whole)


def test_an_empty_file_is_no_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read .*a\.tar \(damaged, cut off"):
        read(tmp_path / "a.tar")


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_images_are_passed_over_by_seeking_and_not_read(tmp_path, memory, monkeypatch, where):
    members = [
        (f"{n}.{e}", b"x" * size) for n in range(5) for e, size in (("jpg", 1 << 20), ("txt", 9))
    ]
    path = write_tar(tmp_path / "a.tar", members)
    url = str(path)
    if where == "memory":
        memory.pipe("/bucket/a.tar", path.read_bytes())
        url = "memory://bucket/a.tar"
    read_bytes = []

    class Counting:
        def __init__(self, file):
            self._file = file

        def read(self, size=-1):
            data = self._file.read(size)
            read_bytes.append(len(data))
            return data

        def __getattr__(self, name):
            return getattr(self._file, name)

    @contextlib.contextmanager
    def counted(path):
        with opened(path) as file:
            yield Counting(file)

    monkeypatch.setattr(readers, "opened", counted)
    assert read(url) == [Row(str(n), "x" * 9) for n in range(5)]
    assert sum(read_bytes) < 200_000, "of 5 MB"


def test_a_tar_that_is_packed_though_its_name_says_nothing_is_read(whole):
    expected = read(whole)
    whole.write_bytes(gzip.compress(whole.read_bytes()))
    assert read(whole) == expected


def test_a_tar_cut_off_within_an_image_is_an_error(whole):
    with tarfile.open(whole) as archive:
        last = archive.getmember("5.jpg")
    whole.write_bytes(whole.read_bytes()[: last.offset_data + 700])
    with pytest.raises(UserError, match=r"cannot read .*a\.tar \(damaged, cut off"):
        read(whole)
