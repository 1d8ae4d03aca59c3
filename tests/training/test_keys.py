"""Images joined with labels; a key is one image: namings, doubled names, hidden folders, one numbering."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest

from common.errors import UserError
from common.storage import Folder
from labels.label_file import LABELS, LabelWriter
from labels.reader import Labels
from labels.vocabulary import OBJECT, Vocabulary
from training import keys
from training.images import find_images, open_index
from training.keys import cached_join, join


@pytest.fixture
def joined_names(tmp_path, make_labels):
    """A function that joins images with keys; the paths of the images that have a label, by key."""

    def run(place, keys: list[str], field: str | None = None) -> dict[str, str]:
        path = make_labels(tmp_path / "x.parquet", dict.fromkeys(keys, "a red ball"))
        labels = Labels(path)
        files = find_images(str(place))
        index = open_index(files, field, Folder(tmp_path / "cache"))
        joined = join(index, files, labels, field)
        assert len(set(joined.images.tolist())) == len(joined.images)
        paths = {}
        for image, row in zip(joined.images.tolist(), joined.labels.tolist(), strict=True):
            at = index[image]
            folder = files.paths[at["file"]]
            paths[labels.keys([row])[0]] = os.path.relpath(f"{folder}/{at['name']}", place)
        return paths

    return run


@pytest.fixture
def folder(tmp_path, pictures):
    """A function that writes images under paths of a folder."""

    def write(*paths: str):
        content = next(iter(pictures.values()))[1]
        for path in paths:
            (tmp_path / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / path).write_bytes(content)
        return tmp_path / "images"

    return write


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_labels_of_a_folders_own_files_are_not_those_of_copies_below_it(
    ending, folder, joined_names
):
    place = folder("1.jpg", "2.jpg", "edited/1.jpg", "edited/2.jpg", "edited/3.jpg")
    keys = [f"1{ending}", f"2{ending}"]
    assert joined_names(place, keys) == {key: f"{key.split('.')[0]}.jpg" for key in keys}


def test_the_most_exact_naming_that_finds_all_labels_wins_over_one_that_finds_some(
    folder, joined_names
):
    place = folder("a/1.jpg", "a/2.jpg", "3.jpg")
    assert joined_names(place, ["1.jpg", "2.jpg", "3.jpg"]) == {
        "1.jpg": "a/1.jpg",
        "2.jpg": "a/2.jpg",
        "3.jpg": "3.jpg",
    }


def test_two_folders_with_one_numbering_are_told_apart_by_their_paths(folder, joined_names):
    place = folder("coco/000001.jpg", "flickr/000001.jpg")
    keys = ["coco/000001", "flickr/000001"]
    assert joined_names(place, keys) == {key: f"{key}.jpg" for key in keys}


@pytest.mark.parametrize(
    ("paths", "key"),
    [
        (("a/1.jpg", "b/1.jpg"), "1"),
        (("a/1.jpg", "b/1.jpg"), "1.jpg"),
        (("1.jpg", "1.png"), "1"),
        (("a/007.jpg", "b/07.jpg"), "7"),
        (("x/1.jpg", "x/1.jpeg"), "x/1"),
    ],
)
def test_a_key_of_two_images_is_refused_by_name(paths, key, folder, joined_names):
    place = folder("other.jpg", *paths)
    with pytest.raises(UserError) as caught:
        joined_names(place, [key])
    sentence = str(caught.value)
    assert f"the key '{key}' of" in sentence
    assert "means two images" in sentence
    assert all(f"images/{path}" in sentence for path in paths)


def test_the_sentence_counts_the_other_doubled_keys(folder, joined_names):
    names = [f"{part}/{number}.jpg" for part in "ab" for number in range(5)]
    with pytest.raises(UserError, match="means two images, as 4 other keys do"):
        joined_names(folder(*names), [str(number) for number in range(5)])


def test_doubled_names_without_labels_are_nobodys_business(folder, joined_names):
    place = folder("a/1.jpg", "b/1.jpg", "a/2.jpg")
    assert joined_names(place, ["2"]) == {"2": "a/2.jpg"}


def test_hidden_folders_and_files_are_no_images(folder, joined_names):
    place = folder(
        "a/1.jpg", ".thumbnails/1.jpg", "a/.cache/1.jpg", "a/._1.jpg", "__MACOSX/a/1.jpg"
    )
    assert joined_names(place, ["1"]) == {"1": "a/1.jpg"}
    assert joined_names(place, ["a/1.jpg"]) == {"a/1.jpg": "a/1.jpg"}


def test_a_folder_below_a_hidden_one_may_be_named(folder, joined_names):
    folder(".data/1.jpg")
    assert joined_names(folder() / ".data", ["1"]) == {"1": "1.jpg"}


def test_a_link_to_a_folder_does_not_double_its_images(folder, joined_names):
    place = folder("a/1.jpg")
    (place / "again").symlink_to(place / "a")
    (place / "a" / "round").symlink_to(place)
    assert joined_names(place, ["1"]) == {"1": "a/1.jpg"}


def test_a_folder_with_an_images_ending_is_no_image(folder, joined_names):
    assert joined_names(folder("1.jpg/2.jpg"), ["2"]) == {"2": "1.jpg/2.jpg"}


def test_two_data_sets_of_shards_with_one_numbering_are_refused(
    tmp_path, pictures, make_shard, joined_names
):
    items = list(pictures.items())
    (tmp_path / "shards").mkdir()
    make_shard(tmp_path / "shards" / "cc3m.tar", dict(items[:4]))
    make_shard(
        tmp_path / "shards" / "cc12m.tar",
        {key: value for (key, _), (_, value) in zip(items[:4], items[4:], strict=False)},
    )
    with pytest.raises(UserError) as caught:
        joined_names(tmp_path / "shards", [key for key, _ in items[:4]])
    assert "as 3 other keys do" in str(caught.value)
    assert "cc12m.tar" in str(caught.value)
    assert "cc3m.tar" in str(caught.value)


def test_a_field_that_two_images_share_is_refused_too(tmp_path, pictures, make_shard, joined_names):
    first = dict(list(pictures.items())[:2])
    (tmp_path / "shards").mkdir()
    for name in ("a", "b"):
        make_shard(tmp_path / "shards" / f"{name}.tar", first)
    with pytest.raises(UserError, match=r"the key 'http://x/00000[01]' of .* means two images"):
        joined_names(tmp_path / "shards", [f"http://x/{key}" for key in first], "url")


@pytest.fixture
def cache(tmp_path) -> Folder:
    return Folder(tmp_path / "cache")


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
    monkeypatch.setattr(keys, "join", None)
    again = cached_join(index, files, labels, None, cache)
    assert np.array_equal(again.labels, joined.labels)


def test_keys_that_match_no_image_say_how_many_of_how_many(world, tmp_path, cache, make_labels):
    labels = Labels(make_labels(tmp_path / "x.parquet", {"elsewhere": "a red ball", "b": "a tree"}))
    files = find_images(str(world.folder))
    sentence = r"0 of the 32 images at .* have one of the 2 keys of .*: an image is called '000000.jpg', a key 'elsewhere'"
    with pytest.raises(UserError, match=sentence):
        join(open_index(files, None, cache), files, labels)
