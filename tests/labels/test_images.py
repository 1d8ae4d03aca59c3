from __future__ import annotations

import time
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from labels import images
from labels.images import batches_of, images_of, labelled_batches
from labels.labelling import label_row_groups
from labels.tag_folders import RowGroup, TagFolder, open_tag_folders


def _labelled(tags, tmp_path, rows=2, partial=False) -> pl.DataFrame:
    ids = {"object": pl.DataFrame({"tag": ["x"], "tag_id": pl.Series([0], dtype=pl.Int32)})}
    spill = tmp_path / "spill"
    spill.mkdir(exist_ok=True)
    with mock.patch("labels.images.BATCH_ROWS", rows), mock.patch("labels.spill.ROWS_IN_MEMORY", 3):
        batches, frames = labelled_batches(
            tags,
            lambda batches: (label_row_groups(row_groups, ids) for row_groups in batches),
            spill,
        )
        found = pl.concat(images_of(tags, batches, frames, spill, partial))
    return found


def _rows(count: int) -> list[dict]:
    return [{"caption": f"c{i}", "objects": ["x"] * (i % 2)} for i in range(count)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_image_gets_its_own_caption_in_the_order_of_the_index(
    tmp_path_factory, write_run, data
):
    """Whatever the index refers to, backwards or forwards, and however shards and batches are cut."""
    captions = data.draw(st.integers(1, 12))
    wanted = data.draw(st.lists(st.integers(0, captions - 1), min_size=1, max_size=40))
    order = data.draw(st.permutations(range(captions)) | st.just(list(range(captions))))
    shards, files = data.draw(st.integers(1, captions)), data.draw(st.integers(1, len(wanted)))
    tmp_path = tmp_path_factory.mktemp("run")
    pairs = [(f"k{i}", wanted[i]) for i in range(len(wanted))]
    folder = write_run(tmp_path / "tags", _rows(captions), pairs, shards, files, order)
    [tags] = open_tag_folders([str(folder)])
    found = _labelled(tags, tmp_path, rows=data.draw(st.integers(1, captions)))
    assert found["key"].to_list() == [key for key, _ in pairs]
    assert found["caption"].to_list() == [f"c{i}" for i in wanted]
    assert found["tag_ids"].to_list() == [[0] * (i % 2) for i in wanted]


def test_the_index_is_read_in_batches_and_late_rows_wait_on_disk(tmp_path, write_run, monkeypatch):
    monkeypatch.setattr(images, "_INDEX_ROWS", 7)
    wanted = np.random.default_rng(0).integers(0, 50, 300).tolist()
    pairs = [(f"k{i}", c) for i, c in enumerate(wanted)]
    folder = write_run(tmp_path / "tags", _rows(50), pairs, shards=9, index_files=4)
    [tags] = open_tag_folders([str(folder)])
    found = _labelled(tags, tmp_path, rows=1)
    assert len(list((tmp_path / "spill").iterdir())) > 5
    assert found["caption"].to_list() == [f"c{i}" for i in wanted]


def test_without_an_index_rows_are_captions_in_the_order_of_their_ids(tmp_path, write_tags):
    folder = write_tags(tmp_path / "tags", _rows(6), shards=3, order=[5, 0, 3, 4, 2, 1])
    [tags] = open_tag_folders([str(folder)])
    found = _labelled(tags, tmp_path)
    assert found["key"].to_list() == ["0", "1", "2", "3", "4", "5"]
    assert found["caption"].to_list() == [f"c{i}" for i in range(6)]


def test_batches_do_not_overlap(tmp_path, write_tags):
    folder = write_tags(tmp_path / "tags", _rows(12), shards=6)
    [tags] = open_tag_folders([str(folder)])
    spans = [(b.first_id, b.last_id, len(b.row_groups)) for b in batches_of(tags, 4)]
    assert spans == [(0, 3, 2), (4, 7, 2), (8, 11, 2)]


def test_twenty_thousand_pieces_are_cut_into_batches_at_once():
    pieces = tuple(RowGroup("x", 10 * n, 10, 10 * n, 10 * n + 9, False) for n in range(20_000))
    tags = TagFolder("x", pieces, (), None, 0, True)
    began = time.monotonic()
    batches = batches_of(tags, 150_000)
    assert [len(batch.row_groups) for batch in batches] == [15_000, 5_000]
    assert time.monotonic() - began < 1  # 4.5 s, where the rows so far are added up for each piece


def test_images_of_missing_shards_are_left_out_only_when_asked(tmp_path, write_run):
    pairs = [("a", 0), ("b", 3), ("c", 1), ("d", 2), ("e", 3), ("f", 0)]
    folder = write_run(tmp_path / "tags", _rows(4), pairs, shards=4)
    (folder / "part-000001.json").unlink()
    [tags] = open_tag_folders([str(folder)], partial=True)
    found = _labelled(tags, tmp_path, rows=1, partial=True)
    assert found["key"].to_list() == ["a", "b", "d", "e", "f"]
    with pytest.raises(UserError, match=r"no shard of .* holds caption 1, which its index names"):
        _labelled(tags, tmp_path, rows=1)


def test_a_caption_that_is_twice_in_a_run_is_refused(tmp_path, write_run):
    rows = [{"caption_id": i, "caption": f"c{i}"} for i in (0, 1, 1)]
    folder = write_run(tmp_path / "tags", rows, [("a", 0), ("b", 1)])
    [tags] = open_tag_folders([str(folder)])
    with pytest.raises(UserError, match="caption 1 is twice in the shards"):
        _labelled(tags, tmp_path)


@pytest.mark.parametrize("indexed", [True, False])
def test_rows_in_no_order_are_put_in_order_in_bounded_batches(
    tmp_path, write_run, write_tags, indexed
):
    order = np.random.default_rng(1).permutation(400).tolist()
    wanted = np.random.default_rng(2).integers(0, 400, 900).tolist() if indexed else range(400)
    if indexed:
        pairs = [(str(c), c) for c in wanted]
        folder = write_run(tmp_path / "tags", _rows(400), pairs, shards=100, order=order)
    else:
        folder = write_tags(tmp_path / "tags", _rows(400), shards=100, order=order)
    [tags] = open_tag_folders([str(folder)])
    assert len(batches_of(tags, 10)) < 5  # nearly all shards overlap
    found = _labelled(tags, tmp_path, rows=10)
    assert found["key"].to_list() == [str(c) for c in wanted]
    assert found["caption"].to_list() == [f"c{c}" for c in wanted]
    assert len(list((tmp_path / "spill").glob("unordered-*"))) > 20
