"""Trains a projector on labelled images.

    python training/train.py --labels labels/cc12m_obj_attr.parquet --images data/cc12m
    torchrun --nproc-per-node 8 training/train.py --labels labels/cc12m_obj_attr.parquet --images data/cc12m

On a laptop, with a small model and a few images:

    python training/train.py --labels labels/mine.parquet --images my/photos \\
        --model ViT-B-32 --weights openai --batch-size 64 --epochs 2
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `training` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from parsing.errors import UserError
from training.augment import CROPS
from training.losses import TAG_LOSSES
from training.settings import CLASS, PATCHES, PRECISIONS, Settings
from training.surgery import MODES


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Flags to settings; every default is that of `Settings`.

    Raises:
        UserError: a setting that cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = {f.name: f.default for f in fields(Settings)}

    def add(group, flag: str, help: str, **options: object) -> None:
        name = flag.removeprefix("--").replace("-", "_")
        if "action" not in options and defaults.get(name) is not None and name != "labels":
            help += " (default: %(default)s)"
            options.setdefault("type", type(defaults[name]))
        group.add_argument(flag, help=help.strip(), default=defaults[name], **options)

    data = parser.add_argument_group("data")
    data.add_argument("--labels", required=True, help="label file made by labels/build_vocab.py")
    add(data, "--images", "folder or glob of webdataset shards, or folder of images")
    add(data, "--key-field", "join by this field of each image's .json, for example url")
    add(
        data,
        "--workers",
        "processes of each rank that load images (default: one per core, at most 8)",
        type=int,
    )
    add(data, "--size", "pixels of the square images (default: the model's)", type=int)
    add(data, "--crop", "part of the image that is taken", choices=CROPS)
    add(data, "--min-scale", "smallest share of the area that a random crop takes")
    add(data, "--flip", "probability of being mirrored")
    add(data, "--jitter", "largest change of brightness, contrast and saturation")

    run = parser.add_argument_group("run")
    add(run, "--runs", "folder of runs")
    add(run, "--name", "this run's folder in there")
    add(run, "--resume", "go on from the run's checkpoint", action="store_true")
    add(run, "--cache", "folder for the index of images and the tags' embeddings")
    add(run, "--save-every", "steps between checkpoints")
    add(run, "--log-every", "steps between lines of figures")
    add(run, "--wandb", "Weights & Biases project to log to as well", metavar="PROJECT")

    model = parser.add_argument_group("model")
    add(
        model,
        "--model",
        "open_clip name, hf-hub:ORG/REPO, folder of a saved model, or groupvit:NAME",
    )
    add(model, "--weights", "open_clip's name of the weights, or a local file")
    add(
        model,
        "--quick-gelu",
        "the activation of OpenAI's models (default: where the weights are known to need it)",
        action=argparse.BooleanOptionalAction,
    )
    add(
        model,
        "--path",
        "how patch tokens are read: CLIP Surgery, MaskCLIP, or as they are",
        choices=MODES,
    )
    add(model, "--depth", "last blocks that the surgery runs beside")
    add(model, "--blocks", "gated convolution blocks of the projector")
    add(
        model,
        "--pool",
        "what is classified: the patches' mean or the class token",
        choices=(PATCHES, CLASS),
    )
    add(model, "--precision", "of encoder and projector", choices=PRECISIONS)

    loss = parser.add_argument_group("loss and optimiser")
    add(loss, "--tag-loss", "multi-tag classification", choices=TAG_LOSSES)
    add(loss, "--separate", "objects and attributes have a softmax each", action="store_true")
    add(loss, "--tag-weight", "weight of the tag loss; 0 leaves it out")
    add(loss, "--text-weight", "weight of the image-text loss; 0 leaves it out")
    add(loss, "--batch-size", "images of a step on all ranks together")
    add(loss, "--micro-batch", "images that a rank puts through the model at once, at most")
    add(loss, "--epochs", "passes over the images")
    add(loss, "--steps", "instead of --epochs", type=int)
    add(loss, "--lr", "learning rate for a batch of 4,096, scaled to yours")
    add(loss, "--weight-decay", "of matrices and convolutions")
    add(loss, "--clip-norm", "largest norm of a step's gradient")
    add(loss, "--seed", "of order, augmentation and initial weights")
    return Settings(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        settings = parse(arguments)
        from training.trainer import train  # slow to import

        folder = train(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if os.environ.get("RANK", "0") == "0":
        print(f"the run is in {folder.url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
