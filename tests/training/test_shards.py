"""Shards that are damaged, empty or compressed, and places without images."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from common.errors import UserError
from common.storage import Folder
from training import images as images_module
from training.images import find_images, index_shard, open_index
from training.shards import DamagedShard


@pytest.fixture
def cache(tmp_path) -> Folder:
    return Folder(tmp_path / "cache")


class TestBadShards:
    def shard(self, tmp_path, pictures, make_shard):
        make_shard(tmp_path / "x.tar", dict(list(pictures.items())[:4]))
        return tmp_path / "x.tar"

    def test_every_cut_through_a_tar_is_noticed(self, tmp_path, pictures, make_shard):
        path = self.shard(tmp_path, pictures, make_shard)
        whole = path.read_bytes()
        with tarfile.open(path) as tar:
            end = tar.getmembers()[-1].offset_data + 512
        for cut in [*range(1, end, 1111), *range(512, end + 1, 512)]:
            path.write_bytes(whole[:cut])
            with pytest.raises(DamagedShard, match=r"x\.tar is cut off or damaged"):
                index_shard(str(path))

    @pytest.mark.parametrize("content", [b"", b"\0" * 10240], ids=["no bytes", "no members"])
    def test_an_empty_shard_is_one_sentence(self, tmp_path, content):
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(UserError, match=r"the shard .*x\.tar is empty: it holds no image"):
            index_shard(str(tmp_path / "x.tar"))

    def test_a_shard_that_is_no_tar_is_one_sentence(self, tmp_path):
        (tmp_path / "x.tar").write_bytes(b"<html>" * 500)
        with pytest.raises(UserError, match="is cut off or damaged"):
            index_shard(str(tmp_path / "x.tar"))

    def sixteen(self, tmp_path, pictures, make_shard, bad: dict[int, bytes]):
        """Shards of one image each, with other bytes in some."""
        items = list(pictures.items())
        for number in range(16):
            make_shard(tmp_path / f"{number:02d}.tar", dict(items[number : number + 1]))
        for number, content in bad.items():
            (tmp_path / f"{number:02d}.tar").write_bytes(content)
        return find_images(str(tmp_path))

    def test_empty_shards_are_left_out_with_a_note(self, tmp_path, cache, pictures, make_shard):
        files = self.sixteen(tmp_path, pictures, make_shard, {7: b"", 9: b"\0" * 10240})
        notes = []
        index = open_index(files, None, cache, note=notes.append)
        assert index["file"][:] == [number for number in range(16) if number not in (7, 9)]
        assert len(notes) == 1
        assert "left out: 2 of 16 shards: " in notes[0]
        assert "07.tar is empty" in notes[0]
        assert "09.tar is empty" in notes[0]
        again = []
        open_index(files, None, cache, note=again.append)
        assert again == notes

    def test_all_damaged_shards_are_named_at_once_and_can_be_left_out(
        self, tmp_path, cache, pictures, make_shard
    ):
        files = self.sixteen(tmp_path, pictures, make_shard, {3: b"<html>" * 500, 7: b""})
        whole = (tmp_path / "05.tar").read_bytes()
        (tmp_path / "05.tar").write_bytes(whole[:1000])
        with pytest.raises(UserError) as caught:
            open_index(files, None, cache)
        sentence = str(caught.value)
        assert sentence.startswith("2 of 16 shards: ")
        assert "03.tar is cut off or damaged" in sentence
        assert "05.tar is cut off or damaged" in sentence
        assert sentence.endswith("leave them out with --skip-damaged")
        assert "\n" not in sentence
        notes = []
        index = open_index(files, None, cache, skip_damaged=True, note=notes.append)
        assert index["file"][:] == [number for number in range(16) if number not in (3, 5, 7)]
        assert [note.split(":")[0] for note in notes] == ["left out"] * 2
        with pytest.raises(UserError, match="2 of 16 shards"):  # the flag is no part of the cache
            open_index(files, None, cache)

    def test_damaged_shards_are_indexed_once_for_both_answers(
        self, tmp_path, cache, pictures, make_shard, monkeypatch
    ):
        files = self.sixteen(tmp_path, pictures, make_shard, {3: b"<html>" * 500})
        with pytest.raises(UserError, match=r"03\.tar is cut off or damaged"):
            open_index(files, None, cache)
        monkeypatch.setattr(images_module, "_tables", None)
        assert len(open_index(files, None, cache, skip_damaged=True)) == 15

    def test_shards_without_any_image_are_one_sentence(self, tmp_path, cache):
        (tmp_path / "a.tar").write_bytes(b"")
        (tmp_path / "b.tar").write_bytes(b"x" * 1000)
        files = find_images(str(tmp_path))
        with pytest.raises(
            UserError, match=r"no shard holds an image: the shard .*a\.tar is empty"
        ):
            open_index(files, None, cache, skip_damaged=True)


def test_a_damaged_json_costs_no_shard(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in (
            ("a.jpg", b"x"), ("a.json", b'{"url": "u/a"}'), ("b.jpg", b"x"), ("b.json", b'{"url": '),
            ("c.json", b"\xff\xfe"), ("c.jpg", b"x"), ("d.jpg", b"x"), ("d.json", b'["url"]'),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    table = index_shard(str(tmp_path / "x.tar"), "url")
    assert table["name"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert table["field"].to_pylist() == ["u/a", None, None, None]


@pytest.mark.parametrize("name", ["cc[1]", "a*b", "what?", "x y", "Ünï"])
@pytest.mark.parametrize("remote", [False, True])
def test_a_folder_of_shards_may_have_any_name(name, remote, tmp_path, pictures, make_shard, memory):
    file = tmp_path / name / f"{name}.tar"
    file.parent.mkdir()
    make_shard(file, dict(list(pictures.items())[:2]))
    place = str(tmp_path / name)
    if remote:
        memory.pipe_file(f"/{name}/{name}.tar", file.read_bytes())
        place = f"memory://{name}"
    for there in (place, f"{place}/{name}.tar"):
        assert [Path(one).name for one in find_images(there).paths] == [f"{name}.tar"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: None, "there are no images at"),
        (lambda p: p.mkdir(), "holds neither webdataset shards"),
        (lambda p: p.write_text("x"), "neither a shard nor a folder"),
    ],
    ids=["missing", "empty folder", "a file"],
)
def test_a_place_without_images_is_one_sentence(make, sentence, tmp_path):
    make(tmp_path / "place")
    with pytest.raises(UserError, match=sentence):
        find_images(str(tmp_path / "place"))


def test_compressed_shards_are_refused(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match="is compressed"):
        find_images(str(tmp_path / "*.tar.gz"))
