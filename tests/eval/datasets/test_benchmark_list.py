"""Benchmarks are opened by name, or from a folder with a `benchmark.yaml`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from eval.confusion import IGNORE
from eval.datasets.benchmark_list import open_benchmark
from tests.eval.datasets.miniatures import KEYS, save_image, save_mask, values


def test_an_unknown_benchmark_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no benchmark 'pets': choose from voc, "):
        open_benchmark("pets", tmp_path)


def own_folder(root) -> None:
    """A user's folder: two images, the classes cup and key, and a background."""
    for seed, key in enumerate(KEYS):
        save_image(root / "images" / f"{key}.jpg", seed)
        save_mask(root / "masks" / f"{key}.png", values(0, 1 + seed, 9))
    (root / "benchmark.yaml").write_text(
        "title: Mine\nsource: my desk\nbackground: true\nthreshold: 0.4\n"
        "ignore: [9]\nfirst: 1\nclasses: [cup, key]\n"
    )


def test_a_folder_with_a_description_is_a_benchmark(tmp_path):
    own_folder(tmp_path / "mine")
    benchmark = open_benchmark(str(tmp_path / "mine"), tmp_path / "not used")
    assert (benchmark.description.name, benchmark.description.threshold) == ("mine", 0.4)
    assert benchmark.class_names == ("background", "cup", "key")
    assert benchmark.keys == list(KEYS)
    assert set(np.unique(benchmark.truth(KEYS[0]))) == {0, 1, IGNORE}
    assert set(np.unique(benchmark.truth(KEYS[1]))) == {0, 2, IGNORE}


MINE = "title: Mine\nsource: x\nbackground: true\nfirst: 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: [", "is not YAML"),
        ("", "is not a valid benchmark description"),
        ("title: Mine\nclasses: [cup]\n", "is not a valid benchmark description: .*missing"),
        ("title: Mine\nsource: x\nbackground: true\nignore: []\nfirst: 1\nclasses: [cup, no]\n",
         "not all strings"),
        ("title: Mine\nsource: x\nbackground: true\nignore: []\nfirst: 70000\nclasses: [cup]\n",
         "is not a valid benchmark description"),
        (MINE + "ignore: [9]\nclasses: [cup, cup]\n", "the class cup is named twice"),
        (MINE + "ignore: [2]\nclasses: [cup, key]\n", "the mask value 2 is both a class and ignored"),
        (MINE + "ignore: [0]\nclasses: [cup]\n", "the mask value 0 is both background and ignored"),
        (MINE.replace("first: 1", "first: 0") + "ignore: []\nclasses: [cup]\n",
         "the mask value 0 is both a class and background"),
        (MINE + "ignore: []\nclasses: []\n", "it names no classes"),
        (MINE + "ignore: []\nclasses: cup\n", "its classes is 'cup', not a list"),
        (MINE + "ignore: 255\nclasses: [cup]\n", "its ignore is 255, not a list"),
        (MINE + "ignore: []\nclasses: [cup]\nthreshold: '0.4'\n", "its threshold is '0.4', not a number"),
        (MINE + "ignore: []\nclasses: [cup]\nthreshold: 40\n", "its threshold is 40, not a number"),
        (MINE.replace("true", "1") + "ignore: []\nclasses: [cup]\n", "its background is 1, not true or"),
        (MINE.replace("first: 1", "first: yes") + "ignore: []\nclasses: [cup]\n", "its first is True"),
        (MINE + "ignore: [-1]\nclasses: [cup]\n", "the mask value -1 is not a whole number from 0 to 65535"),
        (MINE + "ignore: [65536]\nclasses: [cup]\n", "the mask value 65536 is not a whole number"),
        (MINE + "ignore: ['255']\nclasses: [cup]\n", "the mask value '255' is not a whole number"),
        (MINE + "ignore: [255.5]\nclasses: [cup]\n", "the mask value 255.5 is not a whole number"),
        (MINE + "ignore: [no]\nclasses: [cup]\n", "the mask value False is not a whole number"),
        (MINE.replace("first: 1", "first: -3") + "ignore: []\nclasses: [cup]\n", "the mask value -3"),
        (MINE.replace("first: 1", "first: 65535") + "ignore: []\nclasses: [cup, key]\n",
         "the mask value 65536"),
        (MINE + "ignore: []\nclasses: [cup]\nnames: [cup]\n", "its names are .*, not names by class"),
        (MINE + "ignore: []\nclasses: [cup]\nnames: {cap: hat}\n", "names are of cap, which is none"),
        (MINE + "ignore: []\nclasses: [cup]\nnames: {cup: [no]}\n", "names are not all strings"),
        (MINE + "ignore: []\nclasses: [cup, key]\nraw: [7, 9]\n", "has `raw`, which is for published"),
        (MINE + "ignore: []\nclasses: [cup, key]\nraw_gaps: [1]\n", "has `raw`, which is for published"),
        (MINE + "ignore: []\nfolders: 2\n", "has `folders`, which is for published"),
    ],
)  # fmt: skip
def test_an_invalid_description_is_one_sentence(text, message, tmp_path):
    own_folder(tmp_path)
    (tmp_path / "benchmark.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        open_benchmark(str(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_description_or_masks_is_refused(tmp_path):
    own_folder(tmp_path)
    (tmp_path / "masks" / f"{KEYS[1]}.png").unlink()
    with pytest.raises(UserError, match="1 of 2 masks are missing"):
        open_benchmark(str(tmp_path), tmp_path)
    (tmp_path / "benchmark.yaml").unlink()
    with pytest.raises(UserError, match=r"holds no benchmark\.yaml"):
        open_benchmark(str(tmp_path), tmp_path)
    with pytest.raises(UserError, match="there is no benchmark 'nothing'"):
        open_benchmark("nothing", tmp_path)


@pytest.mark.parametrize("ending", ["png", "JPG", "webp"])
def test_two_images_of_one_name_are_refused(ending, tmp_path):
    own_folder(tmp_path)
    Image.new("RGB", (40, 24)).save(tmp_path / "images" / f"{KEYS[0]}.{ending}")
    with pytest.raises(
        UserError, match=rf"Mine has the key {KEYS[0]} for .* and .*: keys are unique"
    ):
        open_benchmark(str(tmp_path), tmp_path)


def test_hidden_files_are_no_images(tmp_path):
    own_folder(tmp_path)
    (tmp_path / "images" / f"._{KEYS[0]}.jpg").write_bytes(b"resource fork")
    assert open_benchmark(str(tmp_path), tmp_path).keys == list(KEYS)
