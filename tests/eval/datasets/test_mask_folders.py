"""Images and masks are joined by key: none is left out, and none is counted twice."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from eval.confusion import IGNORE
from eval.datasets.benchmark_list import BENCHMARKS, open_benchmark
from eval.datasets.benchmarks import BadImage
from tests.eval.datasets.miniatures import KEYS, MINIATURES, save_image, save_mask, values

LISTED = ("voc", "voc20", "context", "context59")  # whose list names the images
GLOBBED = sorted(set(BENCHMARKS) - {*LISTED, "coco_object"})


@pytest.fixture
def own(tmp_path):
    """A folder of one's own, with a function that adds an image and its mask."""
    (tmp_path / "benchmark.yaml").write_text(
        "title: Mine\nsource: x\nbackground: true\nthreshold: 0.4\nignore: [255, 65535]\n"
        "first: 1\nclasses: [cup, key]\n"
    )

    def add(image: str, mask: str, *numbers: int) -> None:
        save_image(tmp_path / "images" / image, len(image))
        save_mask(tmp_path / "masks" / mask, values(*(numbers or (0, 1, 2))))

    add("a.jpg", "a.png")
    return tmp_path, add


def opened(root):
    return open_benchmark(str(root), root)


@pytest.mark.parametrize("name", GLOBBED)
def test_a_mask_without_an_image_is_named_as_an_image_without_a_mask_is(name, tmp_path):
    MINIATURES[name](tmp_path)
    benchmark = open_benchmark(name, tmp_path)
    key = benchmark.keys[1]
    image, mask = benchmark.image_path(key), benchmark.masks[key]
    aside = image.with_suffix(".aside")
    image.rename(aside)
    with pytest.raises(UserError) as caught:
        open_benchmark(name, tmp_path)
    sentence = str(caught.value)
    assert f"is incomplete: 1 of 2 images are missing, the first is {image}" in sentence
    assert f"whose mask is {mask};" in sentence
    aside.rename(image)
    mask.unlink()
    with pytest.raises(UserError, match=f"1 of 2 masks are missing, the first is {mask};"):
        open_benchmark(name, tmp_path)


def test_masks_without_images_are_counted_in_a_folder_of_ones_own(own):
    root, _ = own
    for key in ("b", "c.d", "e f"):
        save_mask(root / "masks" / f"{key}.png", values(0, 1))
    with pytest.raises(UserError, match=r"3 of 4 images are missing, .*/b\.jpg, whose mask is"):
        opened(root)


@pytest.mark.parametrize(
    "key", ["a.b.c", "with space", " led", "Ünï 日本", "x#y%z", "st*r", "[x]", "q?", "-", "0"]
)
def test_a_file_may_have_any_name(key, own):
    root, add = own
    add(f"{key}.jpeg", f"{key}.png", 0, 2)
    assert sorted(opened(root).keys) == sorted(["a", key])
    assert (opened(root).truth(key) == 2).any()


@pytest.mark.parametrize("image", ["B.JPG", "B.Jpeg", "B.PNG", "B.bmp", "B.TIFF", "B.webp"])
@pytest.mark.parametrize("mask", ["B.png", "B.PNG", "B.Png"])
def test_endings_may_be_in_capitals(image, mask, own):
    root, add = own
    add(image, mask, 0, 2)
    benchmark = opened(root)
    assert benchmark.keys == ["B", "a"]
    assert benchmark.image("B").size == (40, 24)
    assert (benchmark.truth("B") == 2).any()


@pytest.mark.parametrize("ending", ["JPG", "jpeg", "JPEG", "png"])
@pytest.mark.parametrize("name", ["ade20k", "coco_stuff", "imagenet_s50"])
def test_published_images_may_have_been_saved_under_another_ending(name, ending, tmp_path):
    MINIATURES[name](tmp_path)
    benchmark = open_benchmark(name, tmp_path)
    for key in benchmark.keys:
        path = benchmark.image_path(key)
        with Image.open(path) as image:
            image.save(path.with_suffix(".part"), "PNG" if ending == "png" else "JPEG")
        path.unlink()
        path.with_suffix(".part").rename(path.with_suffix(f".{ending}"))
    again = open_benchmark(name, tmp_path)
    assert again.keys == benchmark.keys
    assert all(again.image(key).mode == "RGB" for key in again.keys)


def test_folders_below_are_part_of_the_key(own):
    root, add = own
    add("one/a.jpg", "one/a.png", 0, 1)
    add("two/deep/a.PNG", "two/deep/a.png", 0, 2)
    benchmark = opened(root)
    assert benchmark.keys == ["a", "one/a", "two/deep/a"]
    assert [int(benchmark.truth(key).max()) for key in benchmark.keys] == [2, 1, 2]
    (root / "masks/one/a.png").rename(root / "masks/one.png")
    with pytest.raises(UserError, match=r"1 of 4 images are missing, the first is .*/one\.jpg"):
        opened(root)


def test_folders_that_are_links_are_read_once(own, tmp_path_factory):
    root, add = own
    add("one/b.jpg", "one/b.png")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for kind in ("images", "masks"):
        shutil.move(root / kind / "one", elsewhere / kind)
        os.symlink(elsewhere / kind, root / kind / "one")
        os.symlink(root / kind, root / kind / "loop")
    assert opened(root).keys == ["a", "one/b"]


def test_two_masks_of_one_key_are_refused(own):
    root, _ = own
    save_mask(root / "masks/other.png", values(0, 2))
    (root / "masks/other.png").rename(root / "masks/a.PNG")
    with pytest.raises(UserError, match=r"Mine has the key a for .*a\.PNG and .*a\.png"):
        opened(root)


def test_two_images_of_one_name_in_two_cities_are_refused(tmp_path):
    MINIATURES["cityscapes"](tmp_path)
    for path in list(tmp_path.rglob("a_*")):
        copy = path.parent.with_name("copy")
        copy.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    with pytest.raises(UserError, match="has the key a_000000 for"):
        open_benchmark("cityscapes", tmp_path)


@pytest.mark.parametrize("ending", ["_instanceTrainIds.png", "_labelTrainIds.png"])
def test_other_kinds_of_masks_beside_those_read_are_no_masks_without_images(ending, tmp_path):
    MINIATURES["coco_stuff"](tmp_path / "stuff")
    for path in list((tmp_path / "stuff").rglob("*_labelTrainIds.png")):
        shutil.copy(path, str(path).replace("_labelTrainIds.png", "_instanceTrainIds.png"))
        if ending == "_instanceTrainIds.png":
            path.unlink()
    assert len(open_benchmark("coco_stuff", tmp_path / "stuff")) == 2
    assert len(open_benchmark("coco_object", tmp_path / "stuff")) == 2
    MINIATURES["cityscapes"](tmp_path)
    for path in list(tmp_path.rglob("*_gtFine_labelIds.png")):
        shutil.copy(path, str(path).replace("labelIds", "color"))
        shutil.copy(path, str(path).replace("labelIds", "instanceIds"))
    assert len(open_benchmark("cityscapes", tmp_path)) == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "  \n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["", "mark"])
def test_a_list_of_images_may_come_from_any_editor(end, start, tmp_path):
    MINIATURES["voc"](tmp_path)
    base = tmp_path / "VOCdevkit/VOC2012"
    for path in [*base.glob(f"*/{KEYS[1]}.*")]:
        path.rename(path.with_stem("my cat 2"))
    file = base / "ImageSets/Segmentation/val.txt"
    file.write_bytes(start + f"{KEYS[0]}{end}my cat 2{end}".encode())
    assert open_benchmark("voc", tmp_path).keys == [KEYS[0], "my cat 2"]


def test_a_list_that_cannot_be_read_is_one_sentence(tmp_path):
    MINIATURES["voc"](tmp_path)
    file = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    file.write_bytes("кошка\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"cannot read .*val\.txt: .*utf-8") as caught:
        open_benchmark("voc", tmp_path)
    assert "\n" not in str(caught.value)
    file.write_text("\n \n")
    with pytest.raises(UserError, match="contains no images"):
        open_benchmark("voc", tmp_path)


def test_ignored_values_of_sixteen_bits_are_not_counted(own):
    root, _ = own
    numbers = np.where(values(0, 1, 9) == 9, 65_535, values(0, 1, 9)).astype(np.uint16)
    Image.fromarray(numbers).save(root / "masks/a.png")
    truth = opened(root).truth("a")
    np.testing.assert_array_equal(truth, np.where(numbers == 65_535, IGNORE, values(0, 1, 9)))
    Image.fromarray(np.where(numbers == 1, 65_534, numbers)).save(root / "masks/a.png")
    with pytest.raises(BadImage, match="the value 65534, which is none of the 2 classes"):
        opened(root).truth("a")


@pytest.mark.parametrize("across", [-1, 1])
@pytest.mark.parametrize("down", [0, 1])
def test_a_mask_of_one_pixel_more_or_less_is_refused(across, down, own):
    root, _ = own
    save_mask(root / "masks/a.png", np.zeros((24 + down, 40 + across)))
    with pytest.raises(UserError, match="a mask must have the size of its image"):
        opened(root)
