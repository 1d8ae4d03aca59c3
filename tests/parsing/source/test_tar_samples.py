"""Samples of a webdataset: their captions, their order, and tars that are cut off."""

from __future__ import annotations

import gc
import itertools
import tarfile

import pytest

from common.errors import UserError
from parsing.source.readers import Row, Source
from tests.parsing.source.reading import read, sample, tar


def test_a_sample_has_its_text_or_the_field_that_was_asked_for(tmp_path):
    members = [*sample("00000/001", "one\n"), *sample("00000/002", "two")]
    path = tar(tmp_path / "a.tar", members)
    assert read(path) == [Row("00000/001", "one"), Row("00000/002", "two")]
    assert [row.caption for row in read(path, caption_column="alt")] == [
        "alt of one\n",
        "alt of two",
    ]
    without_text = tar(tmp_path / "b.tar", [m for m in members if not m[0].endswith(".txt")])
    assert [row.caption for row in read(without_text)] == ["json of one\n", "json of two"]
    assert [row.key for row in read(without_text)] == ["00000/001", "00000/002"]


@pytest.mark.parametrize("order", ["images first", "texts first"])
def test_a_tar_whose_members_are_sorted_by_kind_has_one_row_a_sample(tmp_path, order):
    members = [m for n in range(5) for m in sample(f"{n}", f"text {n}")[:2]]
    members.sort(key=lambda member: member[0].endswith(".txt") == (order == "images first"))
    path = tar(tmp_path / "a.tar", members)
    assert read(path) == [Row(f"{n}", f"text {n}") for n in range(5)]


def test_samples_that_cannot_be_read_are_rows_with_their_problem(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        [
            ("1.jpg", b"x"),
            ("2.txt", b"caf\xe9"),
            ("3.json", b"{cut"),
            ("4.json", b'["list"]'),
            ("5.json", b'{"width": 3}'),
            ("6.txt", b"fine"),
        ],
    )
    assert read(path) == [
        Row("2", "caf\ufffd", "its .txt is not UTF-8"),
        Row("3", "{cut", "its .json: not JSON"),
        Row("4", '["list"]', "its .json: not a JSON object"),
        Row("5", "", "its .json: no field caption or text or txt or alt_text or captions"),
        Row("6", "fine"),
        Row("1", "", "no .txt and no .json beside the image"),
    ]
    assert "could hold the field alt" in read(path, caption_column="alt")[-2].problem


@pytest.mark.parametrize("where", ["header", "image", "text"])
def test_a_truncated_tar_is_told_wherever_it_is_cut(tmp_path, where):
    path = tar(tmp_path / "a.tar", [m for n in range(9) for m in sample(f"{n}", "a dog")])
    with tarfile.open(path) as archive:
        members = {m.name: m for m in archive}
    at = {
        "header": members["5.jpg"].offset + 100,
        "image": members["5.jpg"].offset_data + 1000,
        "text": members["5.txt"].offset_data + 2,
    }
    path.write_bytes(path.read_bytes()[: at[where]])
    with pytest.raises(UserError, match=r"cannot read .*a.tar \(damaged, cut off"):
        read(path)


def test_a_damaged_header_does_not_pass_for_the_end_of_a_tar(tmp_path):
    path = tar(tmp_path / "a.tar", [m for n in range(9) for m in sample(f"{n}", "a dog")])
    with tarfile.open(path) as archive:
        at = archive.getmember("5.jpg").offset
    data = bytearray(path.read_bytes())
    data[at + 148 : at + 156] = b"garbage!"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot read .*a.tar"):
        read(path)


def test_a_tar_of_many_samples_is_not_kept_in_memory(tmp_path):
    path = tar(tmp_path / "a.tar", [(f"{n}.txt", b"a dog") for n in range(3_000)])
    rows = Source((str(path),)).rows()
    first = next(rows)
    gc.collect()
    list(itertools.islice(rows, 2_000))
    gc.collect()
    members = sum(isinstance(each, tarfile.TarInfo) for each in gc.get_objects())
    assert first == Row("0", "a dog")
    assert members < 100


def test_a_compressed_tar_is_read(tmp_path):
    assert read(tar(tmp_path / "a.tar.gz", sample("1", "one"), "w:gz")) == [Row("1", "one")]
