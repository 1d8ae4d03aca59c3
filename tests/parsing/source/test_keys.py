"""One key for images of two files is refused; one image with several captions is not."""

from __future__ import annotations

import json

import pytest

from common.errors import UserError
from common.storage import Folder
from parsing.source.captions import Selection, write_caption_shards
from parsing.source.keys import rows_with_clear_keys
from parsing.source.readers import Source
from tests.parsing.source.test_values import write_tar


@pytest.fixture
def collide(tmp_path):
    """Two downloads of img2dataset, each numbered from 0."""
    for name, text in (("a", "a red bus"), ("b", "a grey cat")):
        (tmp_path / name).mkdir()
        members = []
        for n in range(3):
            record = {"url": f"https://{name}.org/{n}", "caption": f"{text} {n}"}
            members += [
                (f"{n:09}.jpg", b"x"),
                (f"{n:09}.json", json.dumps(record).encode()),
                (f"{n:09}.txt", f"{text} {n}".encode()),
            ]
        write_tar(tmp_path / name / "00000.tar", members)
    return tmp_path


def test_keys_that_begin_anew_in_another_file_are_refused_with_the_way_out(collide):
    source = Source((f"{collide}/a", f"{collide}/b"))
    with pytest.raises(UserError, match=r"image '000000000' of .*b/00000\.tar .*--key-column url"):
        write_caption_shards(Folder(collide / "run"), source, Selection())
    named = Source((f"{collide}/a", f"{collide}/b"), key_column="url")
    assert write_caption_shards(Folder(collide / "run"), named, Selection()).images == 6


def rows(*files) -> int:
    return len(list(rows_with_clear_keys(Source(tuple(map(str, files))), lambda kind, note: None)))


def test_several_captions_of_one_image_in_one_file_are_fine(tmp_path):
    (tmp_path / "a.tsv").write_text("1\ta dog\n1\ta puppy\n2\ta cat\n")
    (tmp_path / "b.tsv").write_text("3\ta bird\n2\ta cat\n")
    assert rows(tmp_path / "a.tsv", tmp_path / "b.tsv") == 5


def test_urls_name_the_same_image_in_every_file(tmp_path):
    (tmp_path / "a.tsv").write_text("https://a/1\ta dog\n")
    (tmp_path / "b.tsv").write_text("https://a/1\ta puppy\n")
    assert rows(tmp_path / "a.tsv", tmp_path / "b.tsv") == 2


def test_images_that_nothing_names_are_never_mixed_up(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jsonl").write_text(f'{{"caption": "{name} dog"}}\n')
    assert rows(tmp_path / "a", tmp_path / "b") == 2
