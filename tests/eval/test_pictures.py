"""Overlays, legends, heat maps and grids."""

from __future__ import annotations

import numpy as np
from PIL import Image

from eval.confusion import IGNORE
from eval.pictures import grid, heat_map, legend, legend_entries, overlay, palette


def test_an_overlay_colours_classes_and_not_the_background():
    image = Image.new("RGB", (6, 4), (100, 100, 100))
    labels = np.array([[0, 1, 2, IGNORE, 0, 1]] * 4)
    drawn = np.array(overlay(image, labels, background=True))
    assert (drawn[:, 0] == 100).all()
    colours = palette(3)
    np.testing.assert_allclose(drawn[0, 1], 40 + 0.6 * colours[1], atol=1)
    assert not (drawn[0, 2] == drawn[0, 1]).all()
    assert (np.array(overlay(image, labels, background=False))[:, 0] != 100).any()


def test_colours_of_classes_are_distinct():
    colours = palette(171)
    assert len(np.unique(colours, axis=0)) == 171
    distance = np.abs(colours[:30, None].astype(int) - colours[None, :30]).sum(-1)
    assert distance[~np.eye(30, dtype=bool)].min() > 20


def test_a_heat_map_is_red_at_the_maximum():
    values = np.zeros((5, 5))
    values[2, 3] = 1
    drawn = np.array(heat_map(Image.new("RGB", (5, 5), (128, 128, 128)), values)).astype(int)
    red_less_blue = drawn[..., 0] - drawn[..., 2]
    assert red_less_blue.argmax() == 2 * 5 + 3
    assert np.array(heat_map(Image.new("RGB", (5, 5)), np.ones((5, 5)))).std(axis=(0, 1)).max() == 0


def test_legends_list_the_classes_of_the_maps_and_wrap():
    labels = np.array([[3, 3, 3, 1, IGNORE]])
    assert legend_entries([labels]) == [3, 1]
    names = [f"a long class name {i}" for i in range(30)]
    narrow, wide = (legend(range(30), names, width, False) for width in (300, 1600))
    assert narrow.width == 300
    assert narrow.height > 3 * wide.height


def test_captions_longer_than_their_picture_are_truncated():
    picture = Image.new("RGB", (60, 20))
    short = np.array(grid([[picture] * 2], [["x" * 200, ""]]))
    assert (short[:20, 80:] == 255).all()
