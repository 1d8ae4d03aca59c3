"""Benchmarks are opened by name, or from a folder with a `benchmark.yaml`."""

from __future__ import annotations

import numpy as np
import pytest

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
