"""Hours, money and disk for a data set of captions, by arithmetic that is shown line by line.

    python workflows/cc12m/estimate.py                                   # CC12M, 8 x A100, Vicuna-33B
    python workflows/cc12m/estimate.py --gpu h100 --price 3.00
    python workflows/cc12m/estimate.py --model my/model --gpus 4 --captions 3300000 --success 0.7

An estimate, not a measurement: time two thousand captions (`--limit 2000`) before the hours are paid.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from parsing.errors import UserError
from workflows.cc12m.arithmetic import (
    GPUS,
    VICUNA_33B,
    Decoder,
    Efficiency,
    Work,
    parse_caption,
)

VICUNA = "vicuna-33b"
# From an engine that runs well to one that doesn't. What engines reach is known only from timing them.
REACHED = {
    "good": Efficiency(0.50, 0.80, prefix_once=True),
    "middle": Efficiency(0.40, 0.70, prefix_once=False),
    "poor": Efficiency(0.25, 0.50, prefix_once=False),
}
# Operations of one image of a training step, counted with torch's FlopCounterMode on ViT-B/16 at 224
# pixels: frozen image side with the surgery's path, projector forward and forward with backward (it
# runs twice, see training/README.md), and the frozen text side.
TRAINING_FLOPS = 33.7e9 + 8.5e9 + 25.4e9 + 5.8e9
TRAINING_REACHED = (0.45, 0.30, 0.15)
EPOCHS, BATCH = 9, 4096  # the defaults of training/settings.py
LOADED = 595.0  # images a second and core: training/README.md's 1,191 with 2 cores, 500 x 375 JPEGs
# Bytes a row. README.md's dry run left 97 of tags without attributes and raw answers, from words that
# pack better than real ones, and 157 of labels with what their reader keeps beside them.
TAG_BYTES, LABEL_BYTES = 330.0, 160.0


@dataclass(frozen=True)
class Settings:
    """What is estimated.

    Attributes:
        captions: rows of the data set.
        model: `vicuna-33b`, a folder or a hub id.
        gpu, gpus: a key of `GPUS`, and how many.
        tensor_parallel, batch: as in parsing/run.py.
        price: of one GPU for an hour, in any currency.
        prefix, own, out: tokens a caption; see `Work`.
        success: share of the images that can still be downloaded.
        image_bytes: of an image as it is stored.
        weight_bytes: bytes a weight, for a quantised copy; None takes what the model's config says.
    """

    captions: int = 12_423_374
    model: str = VICUNA
    gpu: str = "a100"
    gpus: int = 8
    tensor_parallel: int = 2
    batch: int = 256
    price: float = 2.0
    prefix: float = 352
    own: float = 31
    out: float = 20
    success: float = 0.63
    image_bytes: float = 40_000
    weight_bytes: float | None = None

    def __post_init__(self) -> None:
        if self.gpu not in GPUS:
            raise UserError(f"--gpu is one of {', '.join(GPUS)}, not '{self.gpu}'")
        for name in ("captions", "gpus", "tensor_parallel", "batch", "own", "out", "image_bytes"):
            if not getattr(self, name) > 0:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} must be above 0, not {getattr(self, name):g}")
        for name in ("price", "prefix"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name} must not be negative, not {getattr(self, name):g}")
        if self.weight_bytes is not None and self.weight_bytes <= 0:
            raise UserError(f"--weight-bytes must be above 0, not {self.weight_bytes:g}")
        if not 0 < self.success <= 1:
            raise UserError(f"--success is a share between 0 and 1, not {self.success:g}")
        if self.gpus < self.tensor_parallel:
            raise UserError(
                f"one engine spans {self.tensor_parallel} GPUs (--tensor-parallel), and there are "
                f"{self.gpus} (--gpus)"
            )

    @property
    def engines(self) -> int:
        return self.gpus // self.tensor_parallel

    @property
    def work(self) -> Work:
        return Work(self.prefix, self.own, self.out)


def decoder_of(model: str) -> Decoder:
    """`VICUNA_33B`, or what a model's config says; nothing but the config is fetched.

    Raises:
        UserError: there is no such model, or it is no decoder.
    """
    if model == VICUNA:
        return VICUNA_33B
    from transformers import AutoConfig

    from parsing.dry_run import count_weights
    from parsing.models import find_model

    found = find_model(model)
    found.digest()  # says what is wrong with a name
    parameters = count_weights(found)
    if parameters is None:
        raise UserError(f"transformers does not know the architecture of {model}")
    config = AutoConfig.from_pretrained(found.folder(), revision=found.revision)
    return Decoder.of_config(config, parameters)


@dataclass(frozen=True)
class Estimate:
    """Three values of everything that is estimated, good to poor, or one where it is exact.

    Attributes:
        arithmetic: lines of text, how each follows from the settings.
        captions_a_second: of all engines.
        parsing_hours, parsing_cost: of all GPUs; the cost is of them together.
        training_hours, training_cost: likewise.
        disk: bytes by what they hold.
    """

    arithmetic: tuple[str, ...]
    captions_a_second: tuple[float, ...]
    parsing_hours: tuple[float, ...]
    parsing_cost: tuple[float, ...]
    training_hours: tuple[float, ...]
    training_cost: tuple[float, ...]
    disk: dict[str, float]


def estimate(settings: Settings, model: Decoder) -> Estimate:
    """All of it.

    Raises:
        UserError: the model cannot be split so, or does not fit.
    """
    if settings.weight_bytes is not None:
        model = replace(model, weight_bytes=settings.weight_bytes)
    gpu, tp, work = GPUS[settings.gpu], settings.tensor_parallel, settings.work
    room = _room(settings, model)
    lines = [
        f"weights: {model.parameters / 1e9:.2f} B x {model.weight_bytes:g} bytes = "
        f"{model.weights / 1e9:.1f} GB, {model.weights / tp / 1e9:.1f} GB on each of {tp} GPUs",
        f"keys and values of a token: 2 x {model.layers} layers x {model.kv_heads} heads x "
        f"{model.head_dim} x {model.cache_bytes:g} bytes = {model.kv_bytes / 1e6:.3f} MB",
        f"room beside the weights: {room:,.0f} tokens = {room * model.kv_bytes / 1e9:.0f} GB, for "
        f"{(room - work.prefix) / work.held:,.0f} answers of {work.held:.0f} tokens and one prefix "
        f"(--batch {settings.batch})",
        f"a caption: {work.prefix:g} shared tokens (cached), {work.own:g} of its own, "
        f"{work.out:g} out",
    ]
    costs = {n: parse_caption(model, gpu, tp, settings.batch, work, e) for n, e in REACHED.items()}
    for name, cost in costs.items():
        reached = REACHED[name]
        lines.append(
            f"{name}: {reached.flops:.0%} of {tp} x {gpu.flops / 1e12:.0f} TFLOPS reads a caption in "
            f"{cost.prefill * 1e3:.1f} ms; a step for {settings.batch} answers reads "
            f"{cost.step_bytes / 1e9:.0f} GB (the prefix "
            f"{'once' if reached.prefix_once else 'for each'}) at {reached.bandwidth:.0%} of {tp} x "
            f"{gpu.bandwidth / 1e12:.2f} TB/s; {work.out:g} steps shared by {settings.batch} are "
            f"{cost.decode * 1e3:.1f} ms: {cost.rate:,.0f} captions/s an engine"
        )
    rates = tuple(cost.rate * settings.engines for cost in costs.values())
    hours = tuple(settings.captions / rate / 3600 for rate in rates)
    images = settings.captions * settings.success
    flops = images * EPOCHS * TRAINING_FLOPS
    trained = tuple(
        flops / (settings.gpus * gpu.flops * share) / 3600 for share in TRAINING_REACHED
    )
    lines += [
        f"training: {images / 1e6:.2f} M images x {EPOCHS} epochs = "
        f"{images * EPOCHS / BATCH:,.0f} steps of {BATCH:,}; x {TRAINING_FLOPS / 1e9:.0f} GFLOP = "
        f"{flops / 1e18:.1f} EFLOP; {', '.join(f'{s:.0%}' for s in TRAINING_REACHED)} of "
        f"{settings.gpus} x {gpu.flops / 1e12:.0f} TFLOPS",
        f"training at the middle rate asks for {images * EPOCHS / trained[1] / 3600:,.0f} images/s: "
        f"{images * EPOCHS / trained[1] / 3600 / LOADED:,.0f} cores that decode "
        f"{LOADED:.0f} each, and {images * EPOCHS * settings.image_bytes / trained[1] / 3600 / 1e6:,.0f}"
        " MB/s from the disk",
    ]
    disk = {
        "images": images * settings.image_bytes,
        "tags": settings.captions * TAG_BYTES,
        "labels": settings.captions * LABEL_BYTES,
        "model": model.weights,
    }
    lines.append(
        f"disk: {images / 1e6:.2f} M images x {settings.image_bytes / 1e3:g} kB, "
        f"{settings.captions / 1e6:.2f} M captions x {TAG_BYTES:g} bytes of tags and "
        f"{LABEL_BYTES:g} bytes of labels, and the model"
    )
    price = settings.gpus * settings.price
    return Estimate(
        tuple(lines),
        rates,
        hours,
        tuple(h * price for h in hours),
        trained,
        tuple(h * price for h in trained),
        disk,
    )


def _room(settings: Settings, model: Decoder) -> float:
    gpu, tp = GPUS[settings.gpu], settings.tensor_parallel
    if not model.splits_over(tp):
        raise UserError(
            f"{model.heads} heads of attention cannot be shared by {tp} GPUs: give another "
            "--tensor-parallel"
        )
    room = model.cached_tokens(gpu.memory, tp)
    if room < settings.prefix + settings.work.held:
        raise UserError(
            f"{model.weights / 1e9:.0f} GB of weights do not fit {tp} x {gpu.name}: give a larger "
            "--tensor-parallel, or a quantised model"
        )
    return room


def report(settings: Settings, found: Estimate) -> str:
    """For people."""

    def row(name: str, values: tuple[float, ...], form: str) -> str:
        return f"| {name} | " + " | ".join(form.format(v) for v in values) + " |"

    gpus = f"{settings.gpus} x {GPUS[settings.gpu].name}"
    return "\n".join(
        [
            "estimate by arithmetic, nothing here was measured on these GPUs",
            "",
            *found.arithmetic,
            "",
            f"| {settings.captions:,} captions, {gpus} | {' | '.join(REACHED)} |",
            "|---|--:|--:|--:|",
            row(f"captions/s, {settings.engines} engines", found.captions_a_second, "{:,.0f}"),
            row("parsing, hours", found.parsing_hours, "{:,.1f}"),
            row(f"parsing, at {settings.price:g} a GPU hour", found.parsing_cost, "{:,.0f}"),
            row("training, hours", found.training_hours, "{:,.1f}"),
            row(f"training, at {settings.price:g} a GPU hour", found.training_cost, "{:,.0f}"),
            "",
            "disk: "
            + ", ".join(f"{name} {size / 1e9:,.1f} GB" for name, size in found.disk.items()),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    helps = {
        "captions": "rows of the data set",
        "model": "vicuna-33b, a folder or a hub id",
        "gpu": f"one of {', '.join(GPUS)}",
        "gpus": "how many",
        "tensor_parallel": "GPUs that one engine spans",
        "batch": "answers in the making, as in parsing/run.py",
        "price": "of one GPU for an hour",
        "prefix": "tokens of rules and examples",
        "own": "tokens of a caption's own part of the prompt",
        "out": "tokens of an answer",
        "success": "share of the images that can still be downloaded",
        "image_bytes": "of an image as it is stored",
    }
    for name, text in helps.items():
        value = getattr(defaults, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value),
            default=value,
            help=f"{text} (default %(default)s)",
        )
    parser.add_argument(
        "--weight-bytes", type=float, help="bytes a weight, for a quantised copy: 1, or 0.55"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    flags = vars(parser.parse_args(arguments))
    as_json = flags.pop("json")
    try:
        settings = Settings(**flags)
        found = estimate(settings, decoder_of(settings.model))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    content = {"settings": asdict(settings)} | asdict(found)
    print(json.dumps(content, indent=2) if as_json else report(settings, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
