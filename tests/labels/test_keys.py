"""A key that stands for several captions is told, or refused where folders disagree."""

from __future__ import annotations

import pytest

from common.errors import UserError
from labels.reader import Labels


@pytest.mark.parametrize("at_once", [1, 1000])
def test_one_key_of_two_folders_with_different_captions_is_told(
    tmp_path, write_run, captions, run_build, monkeypatch, at_once
):
    """img2dataset numbers every download from 0; an image that both have is one image."""
    monkeypatch.setattr("labels.keys._AT_ONCE", at_once)
    a = write_run(tmp_path / "a", captions[:2], [("0", 0), ("1", 1), ("https://u", 0)])
    b = write_run(tmp_path / "b", captions[1:], [("2", 0), ("1", 0), ("https://u", 1)])
    flags = {"tags": (str(a), str(b))}
    _, _, notes = run_build(tmp_path / "x.parquet", **flags)
    assert "1 images have several captions, as 'https://u' has: each caption is a row" in notes
    write_run(b, captions[1:], [("2", 0), ("1", 1)])
    with pytest.raises(UserError, match=r"the image '1' is in .*/a and in .*/b with different cap"):
        run_build(tmp_path / "x.parquet", **flags)
    assert len(Labels(tmp_path / "x.parquet")) == 6


def test_several_captions_of_one_image_are_rows_and_told(tmp_path, write_run, captions, run_build):
    folder = write_run(tmp_path / "tags", captions, [("a", 0), ("b", 1), ("a", 2), ("b", 1)])
    _, _, notes = run_build(tmp_path / "x.parquet", tags=(str(folder),))
    assert "1 images have several captions, as 'a' has: each caption is a row" in notes
    assert Labels(tmp_path / "x.parquet").keys(range(4)) == ["a", "b", "a", "b"]
