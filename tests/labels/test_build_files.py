"""A build's files appear together or not at all, locally and at URLs."""

from __future__ import annotations

import errno
import os
from unittest import mock

import polars as pl
import pytest

from common.errors import UserError
from labels.build import build
from labels.reader import Labels
from labels.settings import Settings


def _files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_nothing_changes_where_the_labelling_fails(tmp_path, write_run, captions, run_build):
    folder = write_run(tmp_path / "tags", captions, [("a", 0), ("b", 3)])
    out = tmp_path / "out" / "x.parquet"
    run_build(out, tags=(str(folder),))
    before = {p.name: p.read_bytes() for p in out.parent.iterdir()}
    write_run(folder, captions, [("a", 0), ("b", 9)])
    with pytest.raises(UserError, match="holds caption 9"):
        run_build(out, tags=(str(folder),), k=1)
    assert {p.name: p.read_bytes() for p in out.parent.iterdir()} == before


def test_the_written_vocabulary_is_polars_readable(tmp_path, write_tags, captions, run_build):
    run_build(tmp_path / "x.parquet", tags=(str(write_tags(tmp_path / "tags", captions)),), k=1)
    assert pl.read_parquet(tmp_path / "x.vocab.parquet").rows() == [
        (0, "girl", "object", 2, 0.5),
        (1, "young", "attribute", 2, 0.5),
    ]


@pytest.mark.parametrize("call", [1, 4, 9, 15, 22, 27, 29, 33])
def test_a_disk_error_at_any_moment_leaves_every_earlier_file(
    tmp_path, write_tags, captions, run_build, monkeypatch, call
):
    """Also between two K: an old label file beside a new vocabulary would be refused."""
    flags = {"tags": (str(write_tags(tmp_path / "tags", captions)),), "ks": (1, 2)}
    out = tmp_path / "out" / "x.parquet"
    run_build(out, **flags)
    before = _files(out.parent)
    calls, fsync, replace = [], os.fsync, os.replace

    def failing(real):
        def wrapper(*args):
            calls.append(args)
            if len(calls) == call:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args)

        return wrapper

    monkeypatch.setattr(os, "fsync", failing(fsync))
    monkeypatch.setattr(os, "replace", failing(replace))
    with pytest.raises(UserError, match=rf"no room left in {out.parent}: free some space"):
        run_build(out, **flags | {"min_count": 2})
    monkeypatch.undo()
    assert _files(out.parent) == before
    assert {Labels(out.parent / f"x.k{k}.parquet").num_tags for k in (1, 2)} == {2, 4}


def test_a_picture_that_cannot_be_drawn_costs_no_labels(tmp_path, write_tags, captions, run_build):
    folder = write_tags(tmp_path / "tags", captions)
    out = tmp_path / "out" / "x.parquet"
    run_build(out, tags=(str(folder),))
    notes: list[str] = []
    with mock.patch("labels.build.draw", side_effect=RuntimeError("no fonts\nat all")):
        _, [one] = build(Settings(tags=(str(folder),), out=str(out), k=1), notes.append)
    assert Labels(out).num_tags == 2
    assert "the picture could not be drawn (no fonts): there is none" in notes
    assert not (out.parent / "x.png").exists()
    assert one.paths[:2] == [str(out), str(out.with_name("x.vocab.parquet"))]
    assert str(out.with_name("x.png")) not in one.paths


def test_label_files_go_to_a_url(tmp_path, write_tags, captions, run_build, memory, monkeypatch):
    """Through fsspec, which `memory://` stands for; a protocol that nobody knows is refused."""
    monkeypatch.chdir(tmp_path)
    flags = {"tags": (str(write_tags(tmp_path / "tags", captions)),)}
    run_build(tmp_path / "here" / "x.parquet", k=2, **flags)
    _, [one, _], _ = run_build("memory://bucket/labels/x.parquet", ks=(2, 3), **flags)
    assert one.paths[0] == "memory://bucket/labels/x.k2.parquet"
    here = (tmp_path / "here" / "x.parquet").read_bytes()
    assert memory.cat_file("/bucket/labels/x.k2.parquet") == here
    assert memory.exists("/bucket/labels/x.k3.vocab.parquet")
    with pytest.raises(UserError, match="cannot open the folder nowhere://bucket"):
        run_build("nowhere://bucket/x.parquet", **flags)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "tags"]
    with pytest.raises(UserError, match=r"s3://b/x\.parquet: copy it"):
        Settings(vocab="s3://b/x.parquet")
    with pytest.raises(
        UserError, match=r"there is no label file .*: copy it to a local disk first"
    ):
        Labels("memory://bucket/labels/x.k2.parquet")
