"""Pictures and masks agree, and tell things, colours and textures apart."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from workflows.shapes.drawing import Painter
from workflows.shapes.world import (
    COLOURS,
    GROUNDS,
    NAMES,
    SIZES,
    TEXTURES,
    Choice,
    Placed,
    Scene,
    draw_scene,
)


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(64)


def alone(thing: str, **changes) -> Scene:
    placed = Placed(thing, "red", "large", "plain", 0.5, 0.5, SIZES["large"][0], 0, False)
    return Scene("grass", (replace(placed, **changes),), 5)


@pytest.mark.parametrize("thing", NAMES)
def test_the_mask_is_exactly_where_the_picture_differs_from_its_ground(thing, painter):
    scene = alone(thing)
    picture, owner = painter.draw(scene)
    empty, nobody = painter.draw(replace(scene, placed=()))
    assert not nobody.any()
    changed = (picture.astype(int) != empty).any(-1)
    assert changed[owner == 1].all()
    rim = changed & (owner == 0)  # pixels that the thing covers by less than half
    assert rim.sum() < 0.5 * (owner == 1).sum()
    assert 0.02 < (owner == 1).mean() < 0.35


def test_no_two_things_have_the_same_silhouette(painter):
    masks = [painter.draw(alone(thing))[1] > 0 for thing in NAMES]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert (one & other).sum() / (one | other).sum() < 0.9


@pytest.mark.parametrize("thing", NAMES)
def test_colour_and_texture_show_on_every_thing_and_leave_its_mask_alone(thing, painter):
    pictures, masks = [], []
    for colour in COLOURS:
        for texture in TEXTURES:
            picture, owner = painter.draw(alone(thing, colour=colour, texture=texture))
            pictures.append(picture)
            masks.append(owner)
    assert all((mask == masks[0]).all() for mask in masks)
    assert len({picture.tobytes() for picture in pictures}) == len(COLOURS) * len(TEXTURES)


def test_later_things_cover_earlier_ones(painter):
    one = alone("ball").placed[0]
    both = Scene("sand", (one, replace(one, thing="star")), 0)
    owner = painter.draw(both)[1]
    star = painter.draw(alone("star"))[1] > 0
    assert (owner[star] == 2).all()
    assert (owner == 1).any()


def test_things_at_the_edge_are_cut_off_and_not_wrapped(painter):
    owner = painter.draw(alone("ball", x=0.0, y=0.0))[1]
    assert owner[0, 0] == 1
    assert not owner[:, 48:].any()
    assert not owner[48:].any()


def test_a_painter_that_has_drawn_others_draws_the_same(painter):
    rng = random.Random(3)
    scenes = [draw_scene(rng) for _ in range(12)]
    forwards = [painter.draw(scene) for scene in scenes]
    backwards = [Painter(64).draw(scene) for scene in reversed(scenes)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("ground", GROUNDS)
def test_grounds_vary_from_scene_to_scene(ground, painter):
    first, second = (painter.draw(Scene(ground, (), light))[0] for light in (1, 2**20 + 2))
    assert (first != second).mean() > 0.3


def test_unknown_words_are_refused(painter):
    with pytest.raises(KeyError):
        painter.draw(alone("dragon"))
    with pytest.raises(ValueError, match="no texture called 'furry'"):
        painter.draw(alone("ball", texture="furry"))
    with pytest.raises(ValueError, match="no ground called 'lava'"):
        painter.draw(Scene("lava", (), 0))


def test_scenes_show_everything_there_is_and_only_what_was_chosen():
    rng = random.Random(0)
    scenes = [draw_scene(rng) for _ in range(600)]
    placed = [one for scene in scenes for one in scene.placed]
    assert {one.thing for one in placed} == set(NAMES)
    assert {one.colour for one in placed} == set(COLOURS)
    assert {one.texture for one in placed} == set(TEXTURES)
    assert {scene.ground for scene in scenes} == set(GROUNDS)
    assert {len(scene.placed) for scene in scenes} == {1, 2, 3, 4}
    choice = Choice(counts=(2,), things=("key",), colours=("pink",), grounds=("snow",))
    chosen = draw_scene(rng, choice)
    assert [(one.thing, one.colour) for one in chosen.placed] == [("key", "pink")] * 2
    assert chosen.ground == "snow"


def test_colour_says_nothing_of_the_thing():
    rng = random.Random(1)
    placed = [one for _ in range(3000) for one in draw_scene(rng).placed]
    counts = np.zeros((len(NAMES), len(COLOURS)))
    for one in placed:
        counts[NAMES.index(one.thing), list(COLOURS).index(one.colour)] += 1
    shares = counts / counts.sum(1, keepdims=True)
    assert abs(shares - 1 / len(COLOURS)).max() < 0.06
