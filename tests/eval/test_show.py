"""Pictures of one image by several models."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from eval.confusion import IGNORE
from eval.pictures import grid, heat_map, legend, legend_entries, overlay, palette
from eval.show import main
from tests.eval.datasets.miniatures import save_image

SMALL = ["--size", "32", "--window", "32", "--stride", "16"]


def test_maps_and_overlay_have_a_column_for_clip_and_each_run(
    tmp_path, run_folder, clip_folder, capsys
):
    save_image(tmp_path / "cat.jpg", 1)
    texts = ["cat", "brown cat", "sky"]
    common = ["--image", str(tmp_path / "cat.jpg"), "--text", *texts, *SMALL]
    run = ["--run", str(run_folder), "surgery", "--model"]
    assert main([*run, str(clip_folder), *common, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "out/maps.png"), str(tmp_path / "out/overlay.png"),
    ]  # fmt: skip
    maps = Image.open(tmp_path / "out/maps.png")
    assert maps.width == 4 * (40 + 10) + 10
    assert maps.height == 3 * (24 + 15 + 20) + 10
    assert main(["--run", str(run_folder), *common, "--out", str(tmp_path / "one")]) == 0
    assert Image.open(tmp_path / "one/maps.png").width == 3 * (40 + 10) + 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--image": "/no/cat.jpg"}, "there is no image /no/cat.jpg"),
        ({"--text": " "}, "--text is empty"),
        ({"--run": "/no/run"}, "is not a training run"),
        ({"--image": "TORN"}, "it cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(change, message, tmp_path, run_folder, capsys):
    save_image(tmp_path / "cat.jpg", 1)
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "cat.jpg").read_bytes()[:200])
    flags = {"--run": str(run_folder), "--image": str(tmp_path / "cat.jpg"), "--text": "cat"}
    flags |= change
    if flags["--image"] == "TORN":
        flags["--image"] = str(tmp_path / "torn.jpg")
    assert main([part for pair in flags.items() for part in pair]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_the_background_keeps_the_image_and_classes_take_their_colour():
    image = Image.new("RGB", (6, 4), (100, 100, 100))
    labels = np.array([[0, 1, 2, IGNORE, 0, 1]] * 4)
    drawn = np.array(overlay(image, labels, background=True))
    assert (drawn[:, 0] == 100).all()
    colours = palette(3)
    np.testing.assert_allclose(drawn[0, 1], 40 + 0.6 * colours[1], atol=1)
    assert not (drawn[0, 2] == drawn[0, 1]).all()
    assert (np.array(overlay(image, labels, background=False))[:, 0] != 100).any()


def test_classes_have_colours_of_their_own():
    colours = palette(171)
    assert len(np.unique(colours, axis=0)) == 171
    distance = np.abs(colours[:30, None].astype(int) - colours[None, :30]).sum(-1)
    assert distance[~np.eye(30, dtype=bool)].min() > 20


def test_a_heat_map_is_red_where_the_value_is_greatest():
    values = np.zeros((5, 5))
    values[2, 3] = 1
    drawn = np.array(heat_map(Image.new("RGB", (5, 5), (128, 128, 128)), values)).astype(int)
    red_less_blue = drawn[..., 0] - drawn[..., 2]
    assert red_less_blue.argmax() == 2 * 5 + 3
    assert np.array(heat_map(Image.new("RGB", (5, 5)), np.ones((5, 5)))).std(axis=(0, 1)).max() == 0


def test_legends_list_what_is_there_and_wrap():
    labels = np.array([[3, 3, 3, 1, IGNORE]])
    assert legend_entries([labels]) == [3, 1]
    names = [f"a long class name {i}" for i in range(30)]
    narrow, wide = (legend(range(30), names, width, False) for width in (300, 1600))
    assert narrow.width == 300
    assert narrow.height > 3 * wide.height


def test_captions_too_long_for_a_picture_are_cut():
    picture = Image.new("RGB", (60, 20))
    short = np.array(grid([[picture] * 2], [["x" * 200, ""]]))
    assert (short[:20, 80:] == 255).all()
