"""Input files: what a path stands for, what format it has, and how it is opened."""

from __future__ import annotations

import tarfile

import pytest

from common.errors import UserError
from parsing.source.files import file_size, find_files, format_of, opened
from tests.parsing.source.packing import PACKERS


@pytest.fixture
def folder(tmp_path):
    for name in ("b.tsv", "a.tsv", "c.jsonl", "README.txt", ".hidden.tsv", "_SUCCESS", "z.bin"):
        (tmp_path / name).write_text("x")
    (tmp_path / "d.tsv").mkdir()
    return tmp_path


def names(found: list[str]) -> list[str]:
    return [path.rpartition("/")[2] for path in found]


def test_a_glob_gives_its_files_in_order_and_no_folders(folder):
    assert names(find_files(f"{folder}/*.tsv")) == ["a.tsv", "b.tsv"]


def test_a_folder_gives_its_caption_files_and_neither_read_me_nor_markers(folder):
    (folder / "c.jsonl").unlink()
    assert names(find_files(str(folder))) == ["a.tsv", "b.tsv"]


def test_a_folder_of_two_formats_is_asked_about_rather_than_mixed(folder):
    """As img2dataset leaves it: a tar and a Parquet file with the same captions side by side."""
    with pytest.raises(UserError, match=r"holds jsonl and tsv files: choose one with --format"):
        find_files(str(folder))
    assert names(find_files(str(folder), "jsonl")) == ["c.jsonl"]
    assert names(find_files(str(folder), "tsv")) == ["a.tsv", "b.tsv"]


def test_a_file_whose_name_has_the_signs_of_a_glob_is_itself(tmp_path):
    (tmp_path / "part[1].tsv").write_text("x")
    assert names(find_files(f"{tmp_path}/part[1].tsv")) == ["part[1].tsv"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nothing.tsv", "there are no captions at .*nothing.tsv"),
        ("*.parquet", r"no file matches .*\*.parquet"),
        ("d.tsv", "there are no captions at .*d.tsv"),
        ("z.bin", "cannot tell the format of .*z.bin from its name: give --format"),
        ("z*", "cannot tell the format of .*z.bin from its name: give --format"),
    ],
)
def test_what_is_not_there_or_has_no_format_is_told(folder, path, sentence):
    with pytest.raises(UserError, match=sentence):
        find_files(f"{folder}/{path}")


def test_a_file_system_that_nobody_knows_is_told():
    with pytest.raises(UserError, match=r"cannot reach nosuch://bucket/a.tsv: Protocol not known"):
        find_files("nosuch://bucket/a.tsv")


def test_urls_stay_urls(memory):
    for name in ("a.tsv", "b.tsv"):
        memory.pipe_file(f"/inputs/{name}", b"u\tc\n")
    expected = ["memory:///inputs/a.tsv", "memory:///inputs/b.tsv"]
    assert find_files("memory://inputs") == expected
    assert find_files("memory://inputs/*.tsv") == expected
    assert find_files("memory://inputs/a.tsv") == ["memory://inputs/a.tsv"]
    assert file_size("memory://inputs/a.tsv") == 4
    with opened("memory://inputs/b.tsv") as file:
        assert file.read() == b"u\tc\n"


def test_a_chain_of_file_systems_is_followed(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"u\tc\n")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "a.tsv", "inner/a.tsv")
    url = f"tar://inner/a.tsv::file://{tmp_path}/t.tar"
    assert find_files(url) == [url]
    with opened(url) as file:
        assert file.read() == b"u\tc\n"


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("cc12m.tsv", "tsv"),
        ("CC12M.TSV", "tsv"),
        ("captions.txt.gz", "tsv"),
        ("part-0.snappy.parquet", "parquet"),
        ("a.jsonl.zst", "jsonl"),
        ("00000.tar", "webdataset"),
        ("https://host/a.tsv.gz?download=1", "tsv"),
        ("s3://bucket/a.pq", "parquet"),
        ("what?.tsv", "tsv"),
        ("A.TSV.GZ", "tsv"),
        ("a.jsonl.zstd", "jsonl"),
        ("00000.tgz", "webdataset"),
        ("00000.TXZ", "webdataset"),
        ("archive.zip", None),
        ("tsv", None),
    ],
)
def test_the_format_goes_by_the_ending(name, format):
    assert format_of(name) == format


def test_hidden_and_system_files_and_read_me_files_hold_no_captions(tmp_path):
    (tmp_path / "__MACOSX").mkdir()
    for name in ("a.tsv", "._a.tsv", ".DS_Store", "README.md", "LICENSE.txt", "__MACOSX/._a.tsv"):
        (tmp_path / name).write_text("x")
    (tmp_path / "__MACOSX" / "b.tsv").write_text("x")
    for path in (tmp_path, f"{tmp_path}/*", f"{tmp_path}/**/*.tsv", f"{tmp_path}/*.t*"):
        assert names(find_files(str(path))) == ["a.tsv"]
    assert names(find_files(f"{tmp_path}/LICENSE.txt")) == ["LICENSE.txt"], "asked for by name"


def test_files_whose_names_begin_like_a_read_me_s_hold_captions(tmp_path):
    for name in ("noticeboards.tsv", "licenses.tsv", "notice.tsv", "README_en.tsv"):
        (tmp_path / name).write_text("x")
    assert names(find_files(str(tmp_path))) == ["licenses.tsv", "noticeboards.tsv"]


def test_an_empty_name_is_not_the_folder_that_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "a.tsv").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"name is empty: see --captions"):
        find_files("")


def test_a_link_to_nothing_is_told(tmp_path):
    (tmp_path / "a.tsv").symlink_to(".git/annex/objects/x")
    with pytest.raises(UserError, match=r"a\.tsv is a link to nothing \(\.git/annex/objects/x\)"):
        find_files(f"{tmp_path}/a.tsv")


def test_a_format_that_is_given_also_takes_files_without_an_ending(tmp_path):
    for name in ("part-00000", "part-00001", "_SUCCESS"):
        (tmp_path / name).write_text("x")
    assert names(find_files(str(tmp_path), "tsv")) == ["part-00000", "part-00001"]


def test_a_csv_is_named_as_what_it_is(tmp_path):
    (tmp_path / "a.csv").write_text("url,caption\n")
    with pytest.raises(UserError, match=r"a\.csv is a CSV, which is not read: convert it"):
        find_files(f"{tmp_path}/a.csv")


@pytest.mark.parametrize(("short", "long"), [(".tgz", ".gz"), (".TBZ2", ".bz2"), (".tzst", ".zst")])
def test_short_endings_of_packed_tars_are_unpacked(tmp_path, short, long):
    path = tmp_path / f"a{short}"
    path.write_bytes(PACKERS[long](b"packed"))
    with opened(str(path)) as file:
        assert file.read() == b"packed"


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files_are_unpacked_also_in_several_pieces(tmp_path, ending):
    path = tmp_path / f"a.tsv{ending}"
    path.write_bytes(PACKERS[ending](b"u1\tc1\n") + PACKERS[ending](b"u2\tc2\n"))
    with opened(str(path)) as file:
        assert list(file) == [b"u1\tc1\n", b"u2\tc2\n"]
