"""Captions that also name things which their scene does not show, and what a scene does show."""

from __future__ import annotations

import pytest

from common.errors import UserError
from workflows.shapes.captions import Manner, templates
from workflows.shapes.dataset import Settings, samples
from workflows.shapes.truth import shown

OFTEN = Manner(absent=0.33)
SOME = list(samples("train", 400, 3, OFTEN))


def test_one_caption_in_three_names_a_thing_that_its_scene_does_not_show():
    naming = [one for one in SOME if one.caption.absent_objects]
    assert 0.26 < len(naming) / len(SOME) < 0.40
    for one in naming:
        for name in one.caption.absent_objects:
            assert name in one.caption.text.lower()
            assert name not in shown(one.scene).objects


def test_gold_tags_are_shown_and_absent_ones_stand_apart():
    for one in SOME:
        truth = shown(one.scene)
        assert set(one.caption.objects) <= truth.objects
        assert set(one.caption.attributes) <= truth.pairs
        assert not set(one.caption.absent_attributes) & truth.pairs
        assert not set(one.to_json()["objects"]) & set(one.caption.absent_objects)


def test_other_names_are_as_true_as_the_things_own():
    scene = next(one.scene for one in SOME if any(p.thing == "cup" for p in one.scene.placed))
    assert {"cup", "mug"} <= shown(scene).objects


def test_scenes_and_captions_are_as_before_where_nothing_absent_is_named():
    plain = list(samples("train", 20, 3))
    assert [one.scene for one in plain] == [one.scene for one in SOME[:20]]
    assert not any(one.caption.absent_objects for one in plain)
    assert "absent_objects" not in plain[0].to_json()
    assert "absent" not in Settings(out="x").to_json()
    assert Settings(out="x", absent=0.33).to_json()["absent"] == 0.33


def test_every_sentence_keeps_the_caption_and_names_the_absent():
    for sentence in templates("absent"):
        assert sentence.count("{c}") == 1
        assert sum(sentence.count(f"{{{name}}}") for name in ("x", "ax", "xs")) == 1


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_one_sentence(share):
    with pytest.raises(UserError, match="--absent is a share"):
        Settings(out="x", absent=share)
