"""What a check of tags costs beside the frozen encoder, in processor time for an image.

    python workflows/benchmarks/tag_check_cost.py                             # ViT-B/16 at 224 pixels
    python workflows/benchmarks/tag_check_cost.py --model workflows/shapes/clip --pictures 256

Pictures and embeddings of tags are random, and so are the weights of a model that open_clip names: neither
changes the cost. Captions have three objects and an attribute of a vocabulary by Zipf's law. *Measuring* is
done for every image, *statistics* for those of the sample alone, after the encoder has seen them once more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

if __name__ == "__main__":
    # The repository, not this folder: a module here is called like a package there.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional as F

from common.flags import setting
from labels.label_file import LABELS, LabelWriter
from labels.reader import Labels
from labels.vocabulary import ATTRIBUTE, OBJECT, Vocabulary
from training.clip import load_clip
from training.surgery import SURGERY, ImagePath
from training.tag_check.binding import Mentions
from training.tag_check.evidence import Sums, kinds
from training.tag_check.measure import Looker, Measure
from training.tag_check.settings import BOTH, MAX
from training.tag_check.texts import Texts, bound_pairs
from workflows.benchmarks.measuring import table, take_turns
from workflows.benchmarks.random_clip import MODEL, random_clip
from workflows.command import at_least, in_temporary_folder, run_command


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    model: str = setting(MODEL, "open_clip name, or folder of a saved model", metavar="NAME")
    tags: int = setting(10_000, "objects, and as many attributes", metavar="N")
    pictures: int = setting(16, "images of a batch", metavar="N")
    rounds: int = setting(3, "how often each part is measured", metavar="N")

    def __post_init__(self) -> None:
        at_least(self, tags=10, pictures=2, rounds=1)


def measure(settings: Settings, folder: Path) -> str:
    """The table."""
    local = Path(settings.model).is_dir()
    clip = load_clip(settings.model) if local else random_clip(settings.model)
    looker = Looker(clip, ImagePath(SURGERY, 6), False)
    generator = torch.Generator().manual_seed(0)
    shape = settings.pictures, clip.image_size, clip.image_size, 3
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    classes, patches, _ = looker.encode(pixels)
    labels = _labels(folder / "labels.parquet", settings)
    rows = np.arange(settings.pictures)
    sides = {"encoder": lambda: looker.encode(pixels)}
    for name, phrases in (("measuring", False), ("measuring, --attributes phrases", True)):
        texts = _texts(labels, clip.embed_dim, phrases, generator)
        sums = Sums(texts.embeddings, texts.tags, MAX)
        indptr, tags = labels.rows(rows)
        which, cols = (
            torch.from_numpy(np.repeat(rows, np.diff(indptr))),
            torch.from_numpy(tags).long(),
        )
        sums.add(classes, patches, which, cols)
        look = Measure(labels, texts, sums.statistics(rows), clip.device, BOTH, MAX, 0)
        sides[name] = lambda look=look: look(rows, classes, patches, rows, rows)
        if not phrases:
            sides["statistics"] = lambda sums=sums, which=which, cols=cols: sums.add(
                classes, patches, which, cols
            )
    seconds = take_turns(sides, settings.rounds, process_time)
    lines = [
        (name, f"{1e3 * one / settings.pictures:,.2f}", f"{one / seconds['encoder']:.1%}")
        for name, one in seconds.items()
    ]
    return table([("", "ms an image", "of the encoder's"), *lines])


def _labels(path: Path, settings: Settings) -> Labels:
    """Captions of a dozen words."""
    count, names = settings.tags, [f"thing{i}" for i in range(settings.tags)]
    vocabulary = Vocabulary(
        [*names, *(f"colour{i}" for i in range(count))],
        [OBJECT] * count + [ATTRIBUTE] * count,
        np.full(2 * count, 100),
        settings.pictures,
    )
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, count + 1)
    rows = []
    for number in range(settings.pictures):
        a, b, c = rng.choice(count, 3, replace=False, p=weights / weights.sum()).tolist()
        colour = int(rng.choice(count, p=weights / weights.sum()))
        caption = (
            f"a photo of my colour{colour} thing{a} and the thing{b} , with a thing{c} on sale"
        )
        rows.append(
            {"key": str(number), "caption": caption, "tag_ids": sorted([a, b, c, count + colour])}
        )
    with LabelWriter(path, vocabulary) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=LABELS))
    return Labels(path)


def _texts(labels: Labels, width: int, phrases: bool, generator: torch.Generator) -> Texts:
    """Random embeddings; with phrases, those of each caption's pair and of six other attributes."""
    tags = labels.num_tags
    wanted: dict[tuple[int, int], None] = {}
    near: dict[int, list[int]] = {}
    embeddings = F.normalize(torch.randn(tags, width, generator=generator), dim=-1)
    if phrases:
        pairs = [
            pair
            for row, caption in enumerate(labels.captions(range(len(labels))))
            for pair in bound_pairs(labels, Mentions(caption), labels.row(row))
        ]
        said = sorted({attribute for attribute, _ in pairs})
        near = kinds(embeddings, [*said, *range(tags - 20, tags)])
        for attribute, thing in pairs:
            wanted |= dict.fromkeys((one, thing) for one in (attribute, *near[attribute]))
    more = F.normalize(torch.randn(len(wanted), width, generator=generator), dim=-1)
    numbers = {pair: tags + place for place, pair in enumerate(wanted)}
    return Texts(torch.cat([embeddings, more]), tags, np.ones(tags, bool), numbers, near)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, in_temporary_folder(measure), arguments)


if __name__ == "__main__":
    sys.exit(main())
