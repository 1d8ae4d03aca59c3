"""The whole command on 32 pictures, a random CLIP and thresholds for so few."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from common.storage import Folder
from labels.label_file import read_check, read_made_from
from labels.reader import Labels
from training import check_tags as command
from training.tag_check import check, decision, texts
from training.tag_check.check import check_tags
from training.tag_check.checked_file import threshold_of
from training.tag_check.parts import Parts
from training.tag_check.pictures import PictureFiles
from training.tag_check.settings import Keep, Settings


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Makes thirty pictures enough to judge by."""
    monkeypatch.setattr(decision, "FEWEST", 5)
    monkeypatch.setattr(texts, "FEWEST", 2)


@pytest.fixture
def settings(world, tmp_path):
    def make(**changes) -> Settings:
        values = {
            "labels": str(world.labels),
            "images": str(world.shards),
            "out": str(tmp_path / "seen.parquet"),
            "model": str(world.clip),
            "cache": str(tmp_path / "cache"),
            "chunk": 10,
            "batch_size": 4,
            "workers": 0,
            "page": 0,
        }
        return Settings(**values | changes)

    return make


def tags_of(path: Path | str) -> dict[str, set[str]]:
    labels = Labels(path)
    keys = labels.keys(range(len(labels)))
    return {
        key: {labels.vocabulary.tags[i] for i in labels.row(row)} for row, key in enumerate(keys)
    }


def test_a_label_file_of_the_same_form_comes_out_with_scores(settings, world):
    checked = check_tags(settings(keep="50%"))
    old, new = Labels(world.labels), Labels(settings().out)
    assert new.keys(range(32)) == old.keys(range(32))
    assert new.captions(range(32)) == old.captions(range(32))
    before, after = tags_of(world.labels), tags_of(settings().out)
    assert all(after[key] <= before[key] for key in before)
    assert 0 < checked.counts.kept < len(old.indices)
    assert checked.counts.kept == len(new.indices) == len(new.scores)
    assert ((new.scores >= checked.counts.threshold) & (new.scores <= 1)).all()
    assert (np.diff(new.row(0)) > 0).all()
    assert set(np.bincount(new.indices, minlength=new.num_tags) > 0) == {True}
    assert new.frequencies().min() > 0  # or Eq. 4 could not be computed
    counts = [
        -c
        for c, k in zip(new.vocabulary.counts, new.vocabulary.kinds, strict=True)
        if k == "object"
    ]
    assert counts == sorted(counts)
    assert read_check(settings().out)["labels"] == str(world.labels)
    assert read_made_from(settings().out) == read_made_from(world.labels) == [{"parser": "hand"}]


def test_keep_all_drops_nothing_and_leaves_the_vocabulary(settings, world):
    check_tags(settings(keep="all"))
    assert tags_of(settings().out) == tags_of(world.labels)
    assert Labels(settings().out).vocabulary == Labels(world.labels).vocabulary


@pytest.mark.parametrize("attributes", ["object", "phrases"])
def test_a_killed_check_goes_on_and_gives_the_same(settings, tmp_path, monkeypatch, attributes):
    whole = settings(out=str(tmp_path / "whole.parquet"), attributes=attributes)
    check_tags(whole)
    wanted, broken = settings(attributes=attributes), Parts.write

    def killed(self, chunk, part):
        if chunk == 2:
            raise KeyboardInterrupt
        broken(self, chunk, part)

    monkeypatch.setattr(Parts, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        check_tags(wanted)
    assert not Path(wanted.out).exists()
    monkeypatch.setattr(Parts, "write", broken)
    measured = []
    one = check.Check._measure_chunk
    monkeypatch.setattr(
        check.Check,
        "_measure_chunk",
        lambda self, chunk, measure: (measured.append(chunk), one(self, chunk, measure)),
    )
    check_tags(wanted)
    assert measured == [2, 3]
    assert pq.read_table(wanted.out).equals(pq.read_table(whole.out))


def test_another_keep_is_decided_without_a_look_at_the_pictures(settings, monkeypatch):
    first = check_tags(settings(keep="all")).counts
    monkeypatch.setattr(PictureFiles, "batches", None)
    second = check_tags(settings(keep="40%")).counts
    assert second.kept < first.kept


def test_pictures_that_cannot_be_decoded_are_counted_and_keep_their_tags(settings, world, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(world.folder, folder)
    (folder / "000003.jpg").write_bytes(b"no picture")
    checked = check_tags(settings(images=str(folder), keep="30%"))
    assert (checked.counts.broken, checked.counts.images) == (1, 32)
    assert tags_of(settings().out)["000003"] == tags_of(world.labels)["000003"]
    table = pq.read_table(settings().out).to_pylist()
    assert set(next(row for row in table if row["key"] == "000003")["scores"]) == {None}


def test_rows_without_a_picture_and_rare_tags_stay_unjudged(settings, world, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(30):
        shutil.copy(world.folder / f"{number:06d}.jpg", folder)
    checked = check_tags(settings(images=str(folder), keep="10%"))
    for key in ("000030", "000031"):
        assert tags_of(settings().out)[key] == tags_of(world.labels)[key]
    assert checked.counts.unjudged > 0


def test_no_picture_at_all_is_one_sentence(settings, world, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(world.folder, folder)
    for file in folder.iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"none of the 32 sampled images at .* can be decoded"):
        check_tags(settings(images=str(folder)))


def test_keys_that_match_no_image_are_one_sentence(settings, make_labels, tmp_path):
    labels = make_labels(tmp_path / "other.parquet", {"other": "a red ball"})
    with pytest.raises(UserError, match=r"0 of the 32 images at .* have one of the 1 keys"):
        check_tags(settings(labels=str(labels)))


def test_a_checked_file_checked_again_is_one_sentence(settings, world, tmp_path):
    check_tags(settings())
    again = settings(labels=settings().out, out=str(tmp_path / "again.parquet"))
    with pytest.raises(UserError, match=f"were checked already: .* {re.escape(str(world.labels))}"):
        check_tags(again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "maskclip"}, "was measured with another --path \\(surgery\\)"),
        ({"sample": 20}, "was measured with another --sample"),
        ({"seed": 1}, "was measured with another --seed"),
        ({"normalisation": "imagenet"}, "was measured with another --normalisation \\(clip\\)"),
    ],
)
def test_other_settings_than_those_measured_are_one_sentence(settings, change, message):
    check_tags(settings())
    before = Path(settings().out).read_bytes()
    with pytest.raises(UserError, match=message):
        check_tags(settings(**change))
    assert Path(settings().out).read_bytes() == before


def test_other_pictures_of_the_same_number_are_one_sentence(settings, world, tmp_path):
    check_tags(settings(images=str(world.folder)))
    folder = tmp_path / "others"
    shutil.copytree(world.folder, folder)
    (folder / "000003.jpg").rename(folder / "000003.jpeg")
    with pytest.raises(UserError, match="was measured with another --images"):
        check_tags(settings(images=str(folder)))


def test_another_clip_than_the_one_that_measured_is_one_sentence(settings, save_clip, tmp_path):
    check_tags(settings())
    other = save_clip(tmp_path / "other-clip", seed=5)
    with pytest.raises(UserError, match="was measured with another --model"):
        check_tags(settings(model=str(other)))


def test_what_another_version_measured_is_one_sentence(settings, monkeypatch):
    check_tags(settings())
    monkeypatch.setattr(check, "CODE", check.CODE[1:])
    with pytest.raises(UserError, match="was measured by another version of this program"):
        check_tags(settings())


def test_a_damaged_part_is_named(settings):
    check_tags(settings())
    part = Path(settings().work) / Parts.name(1)
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(UserError, match=r"part-000001\.safetensors is damaged: remove it"):
        check_tags(settings())
    part.unlink()
    check_tags(settings())


def test_the_page_stands_alone_and_shows_what_was_dropped(settings, monkeypatch, capsys):
    from training.tag_check import page

    monkeypatch.setattr(page, "FEWEST", 2)
    flags = settings(keep="50%", page=6)
    arguments = [
        word
        for name in (
            "labels",
            "images",
            "out",
            "model",
            "cache",
            "chunk",
            "workers",
            "page",
            "keep",
        )
        for word in (f"--{name}", str(getattr(flags, name)))
    ]
    assert command.main(arguments) == 0
    assert "tags stay" in capsys.readouterr().out
    html = Path(flags.out).with_suffix(".html").read_text("utf-8")
    assert html.count("<article") > 6
    assert "tc-dropped" in html
    assert "<polygon" in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "<script" not in html


def test_two_ranks_measure_what_one_does(settings, tmp_path, root, free_port):
    one = settings(keep="all", chunk=5, features=str(tmp_path / "one"))
    check_tags(one)
    two = replace(one, out=str(tmp_path / "two.parquet"), features=str(tmp_path / "two"))
    names = (
        "labels", "images", "out", "model", "cache", "chunk", "workers", "page", "keep", "features",
    )  # fmt: skip
    flags = [word for name in names for word in (f"--{name}", str(getattr(two, name)))]
    ranks = ["--nproc-per-node", "2", "--master-port", str(free_port()), "--"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *ranks]
    done = subprocess.run(
        [*launcher, "training/check_tags.py", *flags, "--batch-size", "4"],
        cwd=root, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tags stay (") == 1
    parts = [Parts(Folder(each.work)) for each in (one, two)]
    for chunk in range(7):
        first, second = (each.read(chunk) for each in parts)
        np.testing.assert_array_equal(first.rows, second.rows)
        judged = ~np.isnan(second.z)  # fewer there, as the fixture is not in those processes
        np.testing.assert_allclose(first.z[judged], second.z[judged], atol=0.02)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        first, second = (tmp_path / each / name for each in ("one", "two"))
        if first.suffix != ".safetensors":
            assert first.read_bytes() == second.read_bytes()
            continue
        for key, tensor in load_file(first).items():  # another number of threads rounds otherwise
            torch.testing.assert_close(load_file(second)[key], tensor, rtol=2**-9, atol=1e-4)


def test_a_mistake_ends_with_2(settings, world, capsys):
    assert command.main(["--labels", "nowhere.parquet", "--out", "x.parquet"]) == 2
    assert "there is no label file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep": "most"}, "--keep is all, a score"),
        ({"keep": "1.5"}, "--keep is all, a score"),
        ({"keep": "0%"}, "--keep is all, a score"),
        ({"out": "x.csv"}, "--out names a .parquet file"),
        ({"out": "y.parquet", "labels": "y.parquet"}, "--out is the file of --labels"),
        ({"evidence": "guess"}, "--evidence is one of"),
        ({"sample": 1}, "--sample is at least 2"),
        ({"model": "groupvit:x"}, "GroupViT has no frozen image path"),
        ({"depth": 0}, "at least one block"),
    ],
)
def test_bad_settings_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        Settings(**{"labels": "a.parquet", "out": "b.parquet"} | changes)


def test_what_is_kept():
    assert Keep.read("all") == Keep(0.0)
    assert Keep.read("0.7") == Keep(0.7)
    assert Keep.read("90%") == Keep(None, 0.9)


def test_a_share_is_kept_exactly_also_of_scores_near_zero():
    scores = np.array([1e-6, 2e-6, 3e-6, 4e-6, np.nan, 1.0], np.float16)
    threshold = threshold_of(scores, Keep.read("60%"))
    assert (scores >= np.float16(threshold)).sum() == 3
