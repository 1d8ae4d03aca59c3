"""What training on kept features costs beside training on pictures, in processor time of one core.

    python workflows/benchmarks/features.py                               # ViT-B/16 at 224 pixels
    python workflows/benchmarks/features.py --model workflows/shapes/clip --batch-size 64 --images 512

Pictures are drawn, 500 x 375 pixels, and weights of a model that open_clip names are random: neither changes the
cost. Steps of both kinds take turns; both load in the trainer's own process, so that its time holds all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

if __name__ == "__main__":
    # The repository, not this folder: a module here is called like a package there.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from common.flags import setting
from training.data import make_loader
from training.features import FeatureFolder
from training.settings import CLIP_OWN
from training.settings import Settings as TrainSettings
from training.tag_check.check import check_tags
from training.tag_check.settings import Settings as CheckSettings
from training.trainer import Trainer
from workflows.benchmarks.measuring import MIB, resident, table, take_turns
from workflows.benchmarks.train import run_settings
from workflows.command import at_least, in_temporary_folder, run_command


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    model: str = setting("ViT-B-16", "open_clip name, or folder of a saved model", metavar="NAME")
    images: int = setting(32, "pictures", metavar="N")
    batch_size: int = setting(8, "images of a step", metavar="N")
    rounds: int = setting(5, "steps of each kind that are measured", metavar="N")

    def __post_init__(self) -> None:
        at_least(self, images=2, batch_size=1, rounds=1)


def measure(settings: Settings, folder: Path) -> str:
    """The table."""
    torch.set_num_threads(1)
    pictures, check = _world(settings, folder)
    check_tags(check)
    features = replace(pictures, name="features", features=check.features)
    steps = {"pictures": _step(pictures), "features": _step(features)}
    seconds = take_turns(steps, settings.rounds, process_time)
    kept = FeatureFolder.open(check.features)
    places = kept.reader().places(0)["tokens"]
    rows = [("a training step on", "ms an image", "steps/s", "ratio")]
    for name, one in seconds.items():
        ratio = f"{one / seconds['pictures']:.2f}"
        rows.append((name, f"{1e3 * one / settings.batch_size:,.1f}", f"{1 / one:.2f}", ratio))
    n, c = places.shape[1:]
    note = f"{n} x {c} x 2 = {n * c * 2:,} bytes an image"
    return f"{table(rows)}\n\n{note}; peak of this process {resident('VmHWM') / MIB:,.0f} MiB"


def _world(settings: Settings, folder: Path) -> tuple[TrainSettings, CheckSettings]:
    """Settings of a training on pictures, and of a check that keeps features of the same."""
    saved = Path(settings.model).is_dir()
    pictures = run_settings(
        folder, 10**6, "tiny" if saved else settings.model, settings.batch_size, settings.images,
        crop="whole", normalisation=CLIP_OWN,
    )  # fmt: skip
    if saved:
        pictures = replace(pictures, model=settings.model)
    pictures = replace(pictures, workers=0)
    check = CheckSettings(
        labels=pictures.labels, images=pictures.images, out=str(folder / "seen.parquet"), keep="all",
        model=pictures.model, cache=pictures.cache, features=str(folder / "features"), page=0,
        batch_size=settings.batch_size, workers=0,
    )  # fmt: skip
    return pictures, check


def _step(settings: TrainSettings) -> Callable[[], object]:
    trainer = Trainer(settings, torch.device("cpu"))
    batches = iter(
        make_loader(trainer.setup.data, trainer.batches, settings.num_workers, pin=False)
    )
    return lambda: trainer._one_step(batches)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, in_temporary_folder(measure), arguments)


if __name__ == "__main__":
    sys.exit(main())
