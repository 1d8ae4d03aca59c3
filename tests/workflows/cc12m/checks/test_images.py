"""Image shards that are damaged, missing or of other captions are named; empty ones are left out."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from common.errors import UserError
from common.storage import Folder
from parsing.source.readers import Source
from tests.workflows.cc12m.findings import levels, only
from training.images import find_images, open_index
from workflows.cc12m.checks.finding import FAILED, OK, WARNING, Finding, run_check
from workflows.cc12m.checks.images import check_images


def image_findings(place: Path, captions: Path | None = None) -> list[Finding]:
    source = Source((str(captions),)) if captions else None
    return run_check("images", lambda: check_images(str(place), source))


def test_shards_with_captions_are_ok(crawl):
    found = image_findings(crawl.folder, crawl.tsv)
    assert levels(found) == [OK, OK]
    assert "3 of the 3 images" in found[1].sentence
    assert "by their URLs (train with --key-field url)" in found[1].sentence
    assert (
        "by their keys" in image_findings(crawl.folder, crawl.folder / "00000.parquet")[1].sentence
    )


def test_images_of_other_captions_are_a_failure(crawl, tmp_path):
    other = tmp_path / "other.tsv"
    other.write_text("https://b/1\ta dog\n")
    assert "none of the images in" in only(image_findings(crawl.folder, other), FAILED)
    other.write_text("https://images.example/1.jpg\ta dog\n")
    assert "are these captions of another data set?" in only(
        image_findings(crawl.folder, other), WARNING
    )


@pytest.mark.parametrize("name", ["00000.tar", "00001.tar"])
def test_a_shard_that_is_cut_off_is_a_failure(crawl, name):
    path = crawl.folder / name
    path.write_bytes(path.read_bytes()[:2000])
    assert f"{name} is cut off or damaged" in only(image_findings(crawl.folder), FAILED)


def test_missing_folders_and_shards_are_named(crawl, tmp_path):
    assert "there are no images at" in only(image_findings(tmp_path / "nowhere"), FAILED)
    (crawl.folder / "00001.tar").rename(crawl.folder / "00004.tar")
    assert "3 shards are missing, the first is 00001.tar" in only(
        image_findings(crawl.folder), WARNING
    )


def put_empty(place: Path, kind: str) -> None:
    """A shard without an image, as a downloader leaves it where every download failed."""
    if kind == "no bytes":
        place.write_bytes(b"")
        return
    with tarfile.open(place, "w") as tar:
        if kind == "no image":
            tar.addfile(tarfile.TarInfo("x.txt"), io.BytesIO())


@pytest.mark.parametrize("kind", ["no bytes", "no members", "no image"])
@pytest.mark.parametrize("ends", [(2,), (2, 3, 4), (-1,), (-1, 2)], ids=str)
def test_empty_shards_at_either_end_are_left_out_as_the_trainer_does(crawl, tmp_path, kind, ends):
    for number in (1, 0):  # room for one before the first
        (crawl.folder / f"{number:05d}.tar").rename(crawl.folder / f"{number + 1:05d}.tar")
    for number in ends:
        put_empty(crawl.folder / f"{number + 1:05d}.tar", kind)
    found = image_findings(crawl.folder, crawl.tsv)
    assert FAILED not in levels(found)
    assert "3 images in the first and 3 in the last" in found[0].sentence
    assert "3 of the 3 images" in found[-1].sentence
    notes = [one.sentence for one in found if one.level == WARNING and "left out" in one.sentence]
    [note] = notes
    assert "is empty: it holds no image" in note
    assert (f"and {len(ends) - 1} more" in note) == (len(ends) > 1)
    files = find_images(str(crawl.folder))
    told: list[str] = []
    assert len(open_index(files, None, Folder(tmp_path / "cache"), note=told.append)) == 6
    [sentence] = told
    assert sentence.count("it holds no image") == len(ends)


def test_shards_that_are_all_empty_are_a_failure_here_and_in_training(crawl, tmp_path):
    for path in crawl.folder.glob("*.tar"):
        put_empty(path, "no members")
    sentence = only(image_findings(crawl.folder, crawl.tsv), FAILED)
    assert sentence.startswith("no shard holds an image: ")
    with pytest.raises(UserError) as caught:
        open_index(find_images(str(crawl.folder)), None, Folder(tmp_path / "cache"))
    assert str(caught.value) == sentence


def test_a_damaged_shard_behind_an_empty_one_is_a_failure(crawl):
    put_empty(crawl.folder / "00002.tar", "no members")
    path = crawl.folder / "00001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    assert "00001.tar is cut off or damaged" in only(image_findings(crawl.folder), FAILED)
