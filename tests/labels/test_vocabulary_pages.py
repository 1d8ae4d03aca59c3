"""The page beside a label file, and labels that outlive a page that fails."""

from __future__ import annotations

import pytest

from labels.build import build
from labels.reader import Labels
from labels.settings import Settings


@pytest.fixture
def settings(tmp_path, write_tags, captions):
    folder = write_tags(tmp_path / "tags", captions)
    return {"tags": (str(folder),), "out": str(tmp_path / "out" / "x.parquet"), "ks": (1, 2)}


def test_every_label_file_has_its_page_and_the_summary_names_it(tmp_path, settings):
    summary, coverages = build(Settings(**settings), note=lambda _: None)
    for k, coverage in zip((1, 2), coverages, strict=True):
        page = tmp_path / "out" / f"x.k{k}.html"
        assert f"wrote {page}" in summary
        assert str(page) in coverage.paths
        assert b"<!doctype html>" in page.read_bytes()


def test_a_page_that_fails_is_a_note_beside_complete_labels(tmp_path, settings, monkeypatch):
    def fail(*_):
        raise MemoryError("no room for the page")

    monkeypatch.setattr("labels.vocabulary_pages.find_examples", fail)
    notes = []
    build(Settings(**settings), note=notes.append)
    assert any("not the page of the tags: no room for the page" in note for note in notes)
    assert len(Labels(tmp_path / "out" / "x.k2.parquet")) == 4
    assert not (tmp_path / "out" / "x.k2.html").exists()


def test_no_page_is_written_where_none_is_wanted(tmp_path, settings):
    build(Settings(**settings, page=False), note=lambda _: None)
    assert list((tmp_path / "out").glob("*.html")) == []
