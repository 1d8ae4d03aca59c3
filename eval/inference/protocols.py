"""Published protocols of evaluation, each a value of `Inference`, and what they change on single benchmarks.

release      the default: the `main` branch of the authors' code, which released checkpoints are scored with
release-dev  the `dev` branch of the authors' code
paper        the paper's text: Eq. 7 on similarities, Eq. 8 as a softmax; what the text leaves open (scale,
             thresholds, weight, stride) is the release's, and pixels are normalised as for CLIP itself
group-vit    GroupViT's thresholds and prompt, without its selection of the five best classes
sclip        that of SCLIP and of later training-free methods
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from common.errors import UserError
from eval.datasets.class_names import PLAIN_NAMES, SCLIP_NAMES, WORDS
from eval.inference.class_embeddings import IMAGENET as IMAGENET_TEMPLATES
from eval.inference.class_embeddings import PHOTO
from eval.inference.settings import (
    GROUP_VIT,
    IMAGE,
    PAPER,
    PIXEL,
    RELEASE,
    RELEASE_DEV,
    SCLIP,
    SIMILARITY,
    SOFTMAX,
    Inference,
)
from training.dense import BASELINES, Dense
from training.settings import CLIP_OWN

_RELEASE = Inference()
PROTOCOLS: Mapping[str, Inference] = {
    RELEASE: _RELEASE,
    RELEASE_DEV: replace(
        _RELEASE, protocol=RELEASE_DEV, stride=56, clip_weight=0.5, probability=SOFTMAX
    ),
    PAPER: replace(
        _RELEASE,
        protocol=PAPER,
        normalisation=CLIP_OWN,
        templates=PHOTO,
        names=PLAIN_NAMES,
        blend=SIMILARITY,
        probability=SOFTMAX,
        pamr_in=IMAGE,
    ),
    GROUP_VIT: replace(
        _RELEASE,
        protocol=GROUP_VIT,
        clip_weight=0.0,
        probability=SOFTMAX,
        scale=100.0,
        threshold=0.95,
    ),
    SCLIP: replace(
        _RELEASE,
        protocol=SCLIP,
        normalisation=CLIP_OWN,
        templates=IMAGENET_TEMPLATES,
        names=SCLIP_NAMES,
        size=336,
        window=224,
        stride=112,
        clip_weight=0.0,
        blend=SIMILARITY,
        probability=SOFTMAX,
        eq8=PIXEL,
        scale=40.0,
        pamr_in=IMAGE,
    ),
}
# ImageNet-S's masks are scored at full size, but its images are encoded at one megapixel at most.
_IMAGENET_S = {name: {"most_pixels": 1_000_000} for name in ("imagenet_s50", "imagenet_s300")}
BY_BENCHMARK: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    RELEASE: _IMAGENET_S,
    RELEASE_DEV: {"context59": {"stride": 112}} | _IMAGENET_S,
    PAPER: {},
    GROUP_VIT: {"context": {"threshold": 0.35}},
    SCLIP: {
        "voc": {"scale": 65.0, "threshold": 0.1, "background": WORDS},
        "context": {"scale": 50.0, "threshold": 0.1},
        "coco_object": {"scale": 50.0, "threshold": 0.1, "background": WORDS},
        "cityscapes": {"size": 560},
    },
}


def inference_of(protocol: str = RELEASE, **given: Any) -> Inference:
    """A protocol with some values replaced; a benchmark's own values do not override these.

    Raises:
        UserError: the protocol is unknown, or as `Inference`.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"--protocol is one of {', '.join(PROTOCOLS)}, not '{protocol}'")
    base = PROTOCOLS[protocol]
    if "probability" in given and given["probability"] != base.probability:
        # Scale and threshold belong to the form of Eq. 8.
        given = {"scale": None, "threshold": None} | given
    return replace(base, **given, chosen=tuple(given))


def on_benchmark(inference: Inference, benchmark: str) -> Inference:
    """The settings for one benchmark: the protocol's own values for it, where the user chose none."""
    own = BY_BENCHMARK[inference.protocol].get(benchmark, {})
    return replace(inference, **{k: v for k, v in own.items() if k not in inference.chosen})


def normalisation_for(inference: Inference, run: str) -> str | None:
    """The normalisation to give to `load_dense`; None, a run's own, unless the user chose another."""
    if run in BASELINES or "normalisation" in inference.chosen:
        return inference.normalisation
    return None


def used(inference: Inference, dense: Dense) -> Inference:
    """The settings with the normalisation that a loaded model has."""
    return replace(inference, normalisation=dense.normalisation)


def describe(values: Mapping[str, Any], benchmark: str = "") -> str:
    """One line that states every step, and which of them are not the protocol's.

    Args:
        values: `Inference.to_json` for a benchmark, with the threshold that is used, or None.
        benchmark: its name, for the protocol's own values for it.
    """
    v = dict(values)
    own = on_benchmark(PROTOCOLS[v["protocol"]], benchmark).to_json()
    own["pamr"] = v["pamr"]  # a protocol says where it runs, not whether
    if own["threshold"] is None or v["threshold"] is None:
        own["threshold"] = v["threshold"]
    changed = [name for name in own if v[name] != own[name]]
    sizes = f"resized to {v['size']} px ({v['resize']}, at most {v['longest']})"
    windows = f"windows of {v['window']} px every {v['stride']}"
    if v["probability"] == SOFTMAX:
        eq8 = f"softmax, scale {v['scale']:g}"
    else:
        eq8 = f"sigmoid, scale {v['scale']:g}, bias {v['bias']:g}"
    background = [] if v["threshold"] is None else [f"background under {v['threshold']:g}"]
    if v["background"] != "threshold":
        background.append(f"background by {v['background']}")
    parts = [
        f"pixels by {v['normalisation']}",
        f"prompt {v['templates']}",
        f"names {v['names']}",
        sizes if v["size"] else "not resized",
        *([f"at most {v['most_pixels']:,} pixels"] if v["most_pixels"] else []),
        windows if v["window"] else "one window",
        f"Eq. 7 on {v['blend']}, weight {v['clip_weight']:g}",
        f"Eq. 8 at each {v['eq8']}: {eq8}",
        *background,
        f"absent classes {v['absent']}",
        f"PAMR in each {v['pamr_in']}" if v["pamr"] else "no PAMR",
    ]
    name = v["protocol"] + (f", but for {', '.join(changed)}" if changed else "")
    return f"protocol {name}: {'; '.join(parts)}"
