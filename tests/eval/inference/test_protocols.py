"""Protocols have the values that were read in their sources, and any value may be replaced."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from common.errors import UserError
from eval.datasets.description import Description
from eval.inference.class_embeddings import TEMPLATES
from eval.inference.protocols import (
    PROTOCOLS,
    describe,
    inference_of,
    normalisation_for,
    on_benchmark,
)
from eval.inference.settings import Inference
from eval.segment import parse
from eval.segmentation_report import protocol_of
from tests.eval.test_segmentation import result_of

FLAGS = ["--run", "clip", "--benchmarks", "voc"]
# Of each protocol and benchmark: the values that its source states.
SOURCES = {
    ("release", "voc"): {
        "normalisation": "imagenet", "names": "release", "resize": "plain", "size": 448,
        "longest": 2048, "window": 448, "stride": 224, "clip_weight": 0.3, "blend": "probability",
        "probability": "sigmoid", "eq8_scale": 10.0, "bias": -2.5, "absent": "zero", "most_pixels": 0,
    },
    ("release", "imagenet_s50"): {"most_pixels": 1_000_000},
    ("release-dev", "voc"): {
        "normalisation": "imagenet", "stride": 56, "clip_weight": 0.5, "blend": "probability",
        "probability": "softmax", "eq8_scale": 30.0,
    },
    ("release-dev", "context59"): {"stride": 112},
    ("release-dev", "imagenet_s300"): {"most_pixels": 1_000_000},
    ("paper", "voc"): {
        "blend": "similarity", "probability": "softmax", "window": 448, "size": 448, "eq8": "patch",
    },
    ("group-vit", "voc"): {"threshold": 0.95, "window": 448, "stride": 224, "clip_weight": 0.0},
    ("group-vit", "context"): {"threshold": 0.35},
    ("group-vit", "coco_object"): {"threshold": 0.95},
    ("sclip", "voc"): {
        "normalisation": "clip", "templates": "imagenet", "size": 336, "window": 224, "stride": 112,
        "eq8_scale": 65.0, "background": "words", "threshold": 0.1, "clip_weight": 0.0,
    },
    ("sclip", "ade20k"): {"eq8_scale": 40.0, "background": "threshold"},
}  # fmt: skip
THRESHOLDS = {  # background under
    "release": dict.fromkeys(("voc", "context", "coco_object", "imagenet_s50"), 0.4),
    "release-dev": {
        "voc": 0.45, "context": 0.1, "coco_object": 0.3, "imagenet_s50": 0.3, "imagenet_s300": 0.1,
    },
}  # fmt: skip
SENTENCES = {
    "release": "a photo of a cat.", "release-dev": "a photo of a cat.", "paper": "a photo of a cat",
    "group-vit": "a photo of a cat.",
}  # fmt: skip
OTHERS = {
    "protocol": "paper", "normalisation": "clip", "templates": "bare", "names": "plain",
    "background": "words", "resize": "antialias", "size": 336, "longest": 1024, "most_pixels": 5,
    "window": 224, "stride": 112, "clip_weight": 0.7, "blend": "similarity",
    "probability": "softmax", "eq8": "pixel", "scale": 77.0, "bias": -1.5, "threshold": 0.77,
    "absent": "left-out", "pamr": True, "pamr_in": "image",
}  # fmt: skip


@pytest.mark.parametrize(("protocol", "benchmark"), SOURCES, ids=str)
def test_a_protocol_has_the_values_of_its_source(protocol, benchmark):
    found = on_benchmark(inference_of(protocol), benchmark)
    assert {name: getattr(found, name) for name in SOURCES[protocol, benchmark]} == SOURCES[
        protocol, benchmark
    ]


@pytest.mark.parametrize("protocol", THRESHOLDS)
def test_a_protocol_has_its_thresholds(protocol):
    for benchmark, expected in THRESHOLDS[protocol].items():
        about = Description.read(benchmark)
        found = on_benchmark(inference_of(protocol), benchmark).threshold_of(about.threshold)
        assert found == expected


@pytest.mark.parametrize("protocol", SENTENCES)
def test_a_protocol_has_its_prompt(protocol):
    [sentence] = TEMPLATES[PROTOCOLS[protocol].templates]
    assert sentence("cat") == SENTENCES[protocol]


def test_the_default_is_the_releases():
    assert parse(FLAGS).inference == inference_of("release") == Inference()
    assert parse([*FLAGS, "--protocol", "paper"]).inference == inference_of("paper")


@pytest.mark.parametrize("name", [one for one in OTHERS if one != "protocol"])
def test_any_part_may_be_replaced_by_a_flag_and_is_stated(name):
    if name == "eq8":
        flags = ["--eq8", "pixel", "--blend", "similarity"]
    elif name == "pamr":
        flags = ["--pamr"]
    else:
        flags = [f"--{name.replace('_', '-')}", str(OTHERS[name])]
    base = [*FLAGS, "--protocol", "release", "--pamr"] if name == "pamr_in" else FLAGS
    plain, changed = parse(base).inference, parse([*base, *flags]).inference
    assert getattr(changed, name) == OTHERS[name]
    assert name in changed.chosen
    of = [
        describe(one.to_json() | {"threshold": one.threshold_of(0.45)}) for one in (plain, changed)
    ]
    assert of[0] != of[1]


def test_every_field_but_the_batch_is_stated_and_part_of_what_results_depend_on():
    names = {one.name for one in fields(Inference)}
    assert names - set(OTHERS) == {"batch", "chosen"}
    assert set(Inference().to_json()) == set(OTHERS)


def test_a_benchmarks_own_values_do_not_replace_what_was_chosen():
    chosen = inference_of("sclip", scale=20.0, background="threshold")
    voc = on_benchmark(chosen, "voc")
    assert (voc.scale, voc.background, voc.threshold) == (20.0, "threshold", 0.1)
    same = inference_of("release-dev", stride=56)  # the protocol's own value, but given
    assert on_benchmark(same, "context59").stride == 56
    assert on_benchmark(inference_of("release-dev"), "context59").stride == 112


def test_another_form_of_eq_8_has_its_own_scale_and_threshold():
    sigmoid = on_benchmark(inference_of("sclip", probability="sigmoid"), "voc")
    assert (sigmoid.eq8_scale, sigmoid.threshold_of(0.45)) == (10.0, 0.4)
    softmax = inference_of("release", probability="softmax")
    assert (softmax.eq8_scale, softmax.threshold_of(0.45)) == (30.0, 0.45)


def test_a_run_keeps_the_normalisation_it_was_trained_with_unless_another_is_chosen():
    release, paper = inference_of("release"), inference_of("paper")
    assert normalisation_for(release, "data/runs/x") is None
    assert normalisation_for(release, "clip") == "imagenet"
    assert normalisation_for(paper, "surgery") == "clip"
    chosen = inference_of("release", normalisation="clip")
    assert normalisation_for(chosen, "data/runs/x") == normalisation_for(chosen, "clip") == "clip"


def test_an_unknown_protocol_is_one_sentence():
    with pytest.raises(UserError, match="--protocol is one of release, release-dev, paper"):
        inference_of("tcl")


def test_a_results_protocol_is_read_back_from_it():
    values = replace(Inference(), stride=112).to_json() | {"threshold": None}
    assert "every 112" in protocol_of(result_of("voc", 0.1, settings={"inference": values}))
    assert protocol_of(result_of("voc", 0.1)) == "protocol not recorded"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_not_the_protocols_is_stated(protocol):
    for benchmark in ("voc", "context59", "imagenet_s50", "mine"):
        used = on_benchmark(inference_of(protocol, pamr=True), benchmark)
        values = used.to_json() | {"threshold": used.threshold_of(0.45)}
        assert describe(values, benchmark).startswith(f"protocol {protocol}: ")
        changed = describe(values | {"stride": 17, "bias": -1.0}, benchmark)
        assert changed.startswith(f"protocol {protocol}, but for stride, bias: ")
