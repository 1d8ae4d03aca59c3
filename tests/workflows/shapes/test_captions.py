"""Captions speak of their scenes, and gold tags are what the captions say."""

from __future__ import annotations

import random
import re

import pytest

from parsing.normalise import normalise_attribute, normalise_object
from workflows.shapes.captions import COUNTS, SYNONYMS, Manner, write_caption
from workflows.shapes.world import NAMES, Choice, Placed, Scene, draw_scene

MANY = 1500


@pytest.fixture(scope="module")
def written():
    rng = random.Random(0)
    scenes = [draw_scene(rng) for _ in range(MANY)]
    return [(scene, write_caption(scene, rng)) for scene in scenes]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_gold_tags_use_the_captions_own_words_in_the_form_that_parsers_give(written):
    for _, caption in written:
        said = words(caption.text)
        for one in caption.objects:
            assert normalise_object(one) == one
            plural = {w + "s" for w in one.split()} | {w + "es" for w in one.split()}
            assert words(one) <= said | {w for w in words(one) if plural & said}
        for attribute, owner in caption.attributes:
            assert normalise_attribute(attribute) == attribute
            assert words(attribute) <= said
            assert owner in caption.objects


def test_what_is_tagged_of_a_thing_is_true_of_the_scene(written):
    real = {alias: thing for thing, others in SYNONYMS.items() for alias in others}
    for scene, caption in written:
        there = {one.thing for one in scene.placed}
        grounds = set(caption.objects) - {*NAMES, *real}
        assert {real.get(o, o) for o in caption.objects if o not in grounds} <= there
        assert len(grounds) <= 1
        for attribute, owner in caption.attributes:
            if owner in grounds or attribute in COUNTS.values():
                continue
            alike = [one for one in scene.placed if one.thing == real.get(owner, owner)]
            sizes = {"little": "small", "tiny": "small", "big": "large", "huge": "large"}
            textures = {"spotted": "dotted", "checkered": "checked"}
            meant = sizes.get(attribute, textures.get(attribute, attribute))
            assert any(meant in (one.colour, one.size, one.texture) for one in alike)


def test_things_that_are_not_mentioned_are_not_tagged(written):
    silent = [c for s, c in written if len(c.mentioned) < len(s.placed)]
    assert len(silent) > MANY / 20
    for scene, caption in written:
        assert set(caption.mentioned) <= set(range(len(scene.placed)))


def test_captions_vary_and_speak_of_what_cannot_be_seen(written):
    texts = [caption.text for _, caption in written]
    assert len(set(texts)) > 0.9 * MANY
    said = " ".join(texts).lower()
    for word in ("sale", "morning", "best idea", "free shipping", "<person>", "studio"):
        assert word in said
    assert any(text[0].isupper() for text in texts)
    assert any(text[0].islower() for text in texts)
    assert not any("  " in text or "{" in text or text != text.strip() for text in texts)


def test_a_maker_named_after_a_thing_is_no_tag(written):
    fooled = 0
    for scene, caption in written:
        there = {one.thing for one in scene.placed}
        fooled += any(
            name in words(caption.text) and name not in there and name not in caption.objects
            for name in NAMES
        )
    assert fooled > 0


def test_an_attribute_behind_a_verb_is_tagged():
    rng = random.Random(4)
    placed = Placed("ball", "red", "large", "striped", 0.5, 0.5, 0.6, 0, False)
    caption = write_caption(
        Scene("sand", (placed,), 0), rng, Manner(1.0, 1.0, 1.0, 0.0, predicate=1.0, synonym=0.0)
    )
    assert re.search(r" ball is striped and red$", caption.text)
    assert {("striped", "ball"), ("red", "ball")} <= set(caption.attributes)


def test_several_alike_are_counted_or_named_one_by_one():
    rng = random.Random(2)
    seen = set()
    for _ in range(200):
        scene = draw_scene(rng, Choice(counts=(3,), things=("fish",)))
        caption = write_caption(scene, rng, Manner(omitted=0.0))
        assert caption.objects[0] == "fish"
        seen.add(("three", "fish") in caption.attributes)
    assert seen == {True, False}


def test_a_caption_can_be_told_to_name_things_only():
    rng = random.Random(5)
    quiet = Manner(0, 0, 0, 0, omitted=0, web=0, predicate=0, synonym=0, capital=0)
    for _ in range(100):
        scene = draw_scene(rng)
        caption = write_caption(scene, rng, quiet)
        assert set(caption.objects) == {one.thing for one in scene.placed}
        assert all(attribute in COUNTS.values() for attribute, _ in caption.attributes)
