"""Images found, indexed, joined with labels, ordered, shared out and decoded."""

from __future__ import annotations

import io
import random
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.storage import Folder
from labels.label_file import LABELS, LabelWriter
from labels.reader import Labels
from labels.vocabulary import OBJECT, Vocabulary
from training import data as data_module
from training import images as images_module
from training.augment import Augmentation, middle, random_box, resize
from training.data import LabelledImages, MicroBatches, Order, cached_join, join, make_loader
from training.images import ImageReader, find_images, index_shard, open_index
from training.shards import DamagedShard


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


@pytest.mark.parametrize(
    "name",
    ["{0}", "{0}.jpg", "sub/{0}", "sub/{0}.jpg", "{1}"],
    ids=["stem", "file", "key", "path", "number"],
)
def test_labels_are_joined_under_any_name_of_the_image(
    name, tmp_path, cache, pictures, make_labels
):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for key, (_, content) in pictures.items():
        (tmp_path / "images" / "sub" / f"{key}.jpg").write_bytes(content)
    texts = {name.format(key, int(key)): text for key, (text, _) in pictures.items()}
    labels = Labels(make_labels(tmp_path / "x.parquet", dict(reversed(texts.items()))))
    files = find_images(str(tmp_path / "images"))
    joined = join(open_index(files, None, cache), files, labels)
    assert joined.images.tolist() == list(range(32))
    assert labels.keys(joined.labels) == list(texts)


def test_labels_are_joined_by_a_field_of_the_json(world, tmp_path, cache, pictures, make_labels):
    texts = {f"http://x/{key}": text for key, (text, _) in pictures.items()}
    labels = Labels(make_labels(tmp_path / "x.parquet", texts))
    files = find_images(str(world.shards))
    joined = join(open_index(files, "url", cache), files, labels, "url")
    assert labels.keys(joined.labels) == list(texts)


def test_an_image_with_several_captions_is_several_items(world, tmp_path, cache, pictures):
    vocabulary = Vocabulary(["ball"], [OBJECT], np.array([64]), 64)
    rows = [
        {"key": key, "caption": f"{text}{again}", "tag_ids": [0]}
        for key, (text, _) in pictures.items()
        for again in ("", " again")
    ]
    with LabelWriter(tmp_path / "x.parquet", vocabulary) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=LABELS))
    labels = Labels(tmp_path / "x.parquet")
    files = find_images(str(world.folder))
    joined = join(open_index(files, None, cache), files, labels)
    assert joined.images.tolist() == [image for image in range(32) for _ in range(2)]
    assert labels.captions(joined.labels) == [row["caption"] for row in rows]


def test_images_without_labels_are_left_out_and_the_join_is_kept(
    world, tmp_path, cache, pictures, make_labels, monkeypatch
):
    texts = {key: text for key, (text, _) in pictures.items() if int(key) % 3 == 0}
    labels = Labels(make_labels(tmp_path / "x.parquet", texts))
    files = find_images(str(world.folder))
    index = open_index(files, None, cache)
    joined = cached_join(index, files, labels, None, cache)
    assert joined.images.tolist() == list(range(0, 32, 3))
    monkeypatch.setattr(data_module, "join", None)
    again = cached_join(index, files, labels, None, cache)
    assert np.array_equal(again.labels, joined.labels)


def test_keys_that_match_no_image_say_how_many_of_how_many(world, tmp_path, cache, make_labels):
    labels = Labels(make_labels(tmp_path / "x.parquet", {"elsewhere": "a red ball", "b": "a tree"}))
    files = find_images(str(world.folder))
    sentence = r"0 of the 32 images at .* have one of the 2 keys of .*: an image is called '000000.jpg', a key 'elsewhere'"
    with pytest.raises(UserError, match=sentence):
        join(open_index(files, None, cache), files, labels)


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


@pytest.fixture
def crops(monkeypatch) -> list:
    """Size of what was decoded and box of what was cut out of it, of every image from now on."""
    taken, crop = [], Image.Image.crop

    def spy(self, box):
        taken.append((self.size, box))
        return crop(self, box)

    monkeypatch.setattr(Image.Image, "crop", spy)
    return taken


def jpeg(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=95)
    return sink.getvalue()


@pytest.mark.parametrize("crop", ["random", "center"])
@pytest.mark.parametrize(("factor", "scale"), [(1, 1), (2, 2), (7, 8)])
def test_an_image_decoded_at_a_reduced_scale_looks_as_if_it_were_not(crop, factor, scale, crops):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    width, height = 64 * factor, 48 * factor
    content = jpeg(small.resize((width, height), Image.Resampling.BICUBIC))
    ours = Augmentation(size=32, crop=crop, min_scale=0.5)(content, 7)
    [(decoded, box)] = crops
    assert decoded == (width // scale, height // scale)
    left, top, wide, high = (
        random_box(width, height, 0.5, random.Random(7))
        if crop == "random"
        else middle(width, height)
    )
    taken = np.multiply(box, scale)
    assert np.abs(taken - (left, top, left + wide, top + high)).max() <= scale / 2
    whole = Image.open(io.BytesIO(content)).resize(
        (32, 32), Image.Resampling.BICUBIC, box=tuple(taken)
    )
    assert np.abs(ours.astype(int) - np.asarray(whole).astype(int)).mean() < 6


def test_a_large_jpeg_is_decoded_at_a_reduced_scale(crops):
    Augmentation(size=224, crop="center")(jpeg(Image.new("RGB", (1600, 1200))), 0)
    assert crops == [((400, 300), (50, 0, 350, 300))]


@pytest.mark.parametrize(("height", "width"), [(375, 500), (300, 60), (90, 100), (1, 1), (1, 700)])
def test_images_are_resized_as_pillow_does_it(height, width):
    # Greys that no overshoot takes out of [0, 255], where the two clip at different times.
    noise = np.random.default_rng(0).integers(60, 190, (height, width, 3), np.uint8)
    resized = resize(noise, 64)
    assert resized.flags.c_contiguous  # else it takes as long to copy as it took to make
    ours = resized.astype(int)
    theirs = Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(ours - np.asarray(theirs).astype(int)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_every_mode_become_rgb(mode):
    sink = io.BytesIO()
    image = Image.new("RGB", (40, 30), (200, 30, 40)).convert(mode)
    image.save(sink, "JPEG" if mode in ("L", "CMYK") else "PNG")
    square = Augmentation(size=16)(sink.getvalue(), 0)
    assert square.shape == (16, 16, 3)
    assert square.dtype == np.uint8


def test_random_boxes_cover_the_allowed_areas_and_ratios():
    rng = random.Random(0)
    boxes = [random_box(640, 480, 0.25, rng) for _ in range(2000)]
    areas = [w * h / (640 * 480) for _, _, w, h in boxes]
    ratios = [w / h for _, _, w, h in boxes]
    assert 0.24 < min(areas) < 0.27
    assert max(areas) > 0.95
    assert min(ratios) > 0.74
    assert max(ratios) < 1.35
    assert all(x >= 0 and y >= 0 and x + w <= 640 and y + h <= 480 for x, y, w, h in boxes)


@pytest.mark.parametrize(("width", "height"), [(1000, 3), (3, 1000), (1, 1)])
def test_a_strip_gives_its_middle(width, height):
    x, y, w, h = random_box(width, height, 0.9, random.Random(1))
    assert x >= 0
    assert y >= 0
    assert 1 <= w <= width
    assert 1 <= h <= height


def test_a_flip_and_a_jitter_change_the_image(world):
    content = next(iter(world.folder.iterdir())).read_bytes()
    plain = Augmentation(size=32, crop="center")(content, 0)
    flipped = Augmentation(size=32, crop="center", flip=1.0)(content, 0)
    assert np.array_equal(flipped, plain[:, ::-1])
    assert not np.array_equal(Augmentation(size=32, crop="center", jitter=0.4)(content, 0), plain)


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


def test_an_unknown_augmentation_is_refused():
    for wrong in ({"crop": "corner"}, {"min_scale": 0}, {"flip": 2}, {"jitter": 1}, {"size": 0}):
        with pytest.raises(ValueError, match="not"):
            Augmentation(**wrong)
