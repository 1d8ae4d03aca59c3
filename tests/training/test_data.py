"""Images found, indexed, joined with labels, ordered, shared out and decoded."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch

from common.storage import Folder
from labels.reader import Labels
from training import data as data_module
from training.augment import Augmentation
from training.data import LabelledImages, MicroBatches, Order, make_loader
from training.images import ImageReader, find_images, index_shard, open_index
from training.keys import join


@pytest.fixture
def cache(tmp_path) -> Folder:
    return Folder(tmp_path / "cache")


def test_an_index_points_at_the_bytes_of_every_image(world, cache, pictures):
    for place in (world.folder, world.shards):
        files = find_images(str(place))
        index = open_index(files, None, cache)
        reader = ImageReader(files)
        found = {
            row["name"]: reader.read(*(row[k] for k in ("file", "name", "offset", "size")))
            for row in index
        }
        assert found == {f"{key}.jpg": content for key, (_, content) in pictures.items()}


def test_an_index_is_made_once_and_again_when_a_shard_changes(
    world, cache, tmp_path, pictures, make_shard
):
    shards = tmp_path / "shards"
    shards.mkdir()
    items = list(pictures.items())
    make_shard(shards / "0.tar", dict(items[:5]))
    assert len(open_index(find_images(str(shards)), None, cache)) == 5
    assert len(open_index(find_images(str(shards)), None, cache)) == 5
    assert len(cache.names(".arrow")) == 1
    make_shard(shards / "0.tar", dict(items[:7]))
    assert len(open_index(find_images(str(shards)), None, cache)) == 7


def test_many_shards_are_indexed_in_their_order_by_several_processes(
    tmp_path, cache, pictures, make_shard
):
    items = list(pictures.items())
    for number in range(16):
        make_shard(tmp_path / f"{number:02d}.tar", dict(items[2 * number : 2 * number + 2]))
    index = open_index(find_images(str(tmp_path)), None, cache)
    assert index["name"][:] == [f"{key}.jpg" for key in pictures]
    assert index["file"][:] == [number // 2 for number in range(32)]


def test_each_sample_gives_its_first_image(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("d/a.txt", "d/a.jpg", "d/a.mask.png", "d/b.json", "d/c.seg.JPEG"):
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"{}"))
    assert index_shard(str(tmp_path / "x.tar"))["name"].to_pylist() == ["d/a.jpg", "d/c.seg.JPEG"]


@pytest.mark.parametrize("shards", [None, [10, 1, 22, 7, 60]])
def test_every_pass_takes_every_image_once_in_an_order_of_its_own(shards, monkeypatch):
    monkeypatch.setattr(data_module, "SHARDS_MIXED", 2)
    files = None if shards is None else np.repeat(np.arange(len(shards)), shards)
    order = Order(100, files, seed=3)
    first, second = order[0:100], order[100:200]
    assert sorted(first) == list(range(100))
    assert sorted(second) == list(range(100, 200))
    assert not np.array_equal(first, second - 100)
    assert np.array_equal(Order(100, files, seed=3)[40:160], order[0:200][40:160])
    assert not np.array_equal(Order(100, files, seed=4)[0:100], first)


def test_few_shards_are_read_from_at_one_time(monkeypatch):
    monkeypatch.setattr(data_module, "SHARDS_MIXED", 2)
    files = np.repeat(np.arange(10), 50)
    taken = files[Order(500, files, seed=0)[0:500]]
    for start in range(0, 500, 100):
        assert len(set(taken[start : start + 100])) == 2


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("micro_batch", [1, 3, 64])
def test_ranks_share_a_batch_without_overlap_and_any_step_can_be_the_first(world_size, micro_batch):
    order = Order(50, None, seed=1)
    steps = []
    for rank in range(world_size):
        batches = MicroBatches(order, 16, micro_batch, 2, 5, rank, world_size)
        parts = list(batches)
        assert len(parts) == len(batches) == 3 * batches.parts
        assert max(map(len, parts)) <= micro_batch
        flat = [item for part in parts for item in part]
        steps.append([flat[i : i + batches.share] for i in range(0, len(flat), batches.share)])
    for step in range(3):
        together = [item for rank in steps for item in rank[step]]
        assert together == order[(step + 2) * 16 : (step + 3) * 16].tolist()


def make_data(world, cache, images=None, tokenizer=None, **augmentation):
    files = find_images(str(images or world.folder))
    index = open_index(files, None, cache)
    labels = Labels(world.labels)
    joined = join(index, files, labels)
    return LabelledImages(
        index, files, joined, labels, Augmentation(size=32, **augmentation), tokenizer, seed=0
    )


def test_a_batch_holds_the_images_captions_and_tags_of_its_items(world, cache, pictures, tiny):
    data = make_data(world, cache, tokenizer=tiny.tokenizer, crop="center")
    items = [3, 30, 32 + 3]  # the last is image 3 again, in the second pass
    batch = data.__getitems__(items)
    texts = [text for text, _ in pictures.values()]
    assert torch.equal(batch.tokens, tiny.tokenizer([texts[3], texts[30], texts[3]]).int())
    labels = Labels(world.labels)
    for i, image in enumerate((3, 30, 3)):
        own = batch.cols[batch.crow[i] : batch.crow[i + 1]]
        assert own.tolist() == labels[f"{image:06d}"].tolist()
    assert batch.pixels.shape == (3, 32, 32, 3)
    assert torch.equal(batch.pixels[0], batch.pixels[2])
    assert (batch.tried, batch.skipped, batch.problem) == (3, 0, "")


def test_an_image_is_cut_differently_in_each_pass_and_the_same_in_each_run(world, cache):
    data = make_data(world, cache)
    first, second = data[5].pixels, data[5 + 32].pixels
    assert not torch.equal(first, second)
    assert torch.equal(make_data(world, cache)[5].pixels, first)


def test_workers_give_what_no_workers_give(world, cache, tiny):
    data = make_data(world, cache, images=world.shards, tokenizer=tiny.tokenizer)
    batches = MicroBatches(Order(32, None, 0), 8, 8, 0, 6)
    alone, several = (list(make_loader(data, batches, workers, False)) for workers in (0, 2))
    for ours, theirs in zip(alone, several, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours[:4], theirs[:4], strict=True))


def test_a_worker_draws_pixels_where_the_trainer_sees_them(world, cache, monkeypatch):
    """Else they would be copied once more when the batch is sent."""
    monkeypatch.setattr(data_module, "get_worker_info", lambda: "a worker")
    assert make_data(world, cache).__getitems__([1, 2]).pixels.is_shared()


def test_another_image_takes_the_place_of_one_that_cannot_be_decoded(
    world, cache, tmp_path, pictures
):
    images = tmp_path / "images"
    images.mkdir()
    for key, (_, content) in pictures.items():
        (images / f"{key}.jpg").write_bytes(content if int(key) != 4 else content[:300])
    data = make_data(world, cache, images=images)
    batch = data.__getitems__([3, 4, 5])
    assert (batch.tried, batch.skipped) == (4, 1)
    assert batch.pixels[1].any()
    again = make_data(world, cache, images=images).__getitems__([4])
    assert torch.equal(again.pixels[0], batch.pixels[1])  # chosen by the item alone
