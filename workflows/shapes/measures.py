"""How well a CLIP knows the small world: naming, retrieval, and segmentation by its patches.

python workflows/shapes/measures.py --model workflows/shapes/clip
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `workflows` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from common.flags import setting
from eval.confusion import ConfusionMatrix
from eval.inference.class_embeddings import class_embeddings
from eval.inference.protocols import inference_of
from eval.inference.segmenter import Segmenter
from eval.inference.settings import PAPER
from training.clip import Clip, load_clip
from training.dense import Dense
from training.model import normalise
from training.surgery import MASKCLIP, NONE, SURGERY, ImagePath, image_tokens
from workflows.calibration import for_segmentation
from workflows.command import at_least, run_command
from workflows.shapes.dataset import samples
from workflows.shapes.drawing import Painter
from workflows.shapes.world import NAMES, Choice, Scene, draw_scene

SCALES = (5.0, 10.0, 20.0, 40.0)  # of Eq. 8
THRESHOLDS = tuple(np.arange(0.1, 0.96, 0.05).round(2).tolist())
CLASSES = len(NAMES) + 1  # with the background
_BATCH = 64
_FITTING = 300  # steps


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    model: str = setting("", "folder of an open_clip model", required=True, metavar="DIR")
    scenes: int = setting(300, "scenes of each kind", metavar="N")
    seed: int = setting(0, "of the scenes", metavar="N")

    def __post_init__(self) -> None:
        at_least(self, scenes=1, seed=0)


@dataclass(frozen=True)
class Segmented:
    """How patches segment along one path.

    Attributes:
        path: `none`, `maskclip` or `surgery`, with the depth.
        miou: percent, over background and all things, at the best scale and threshold, which were
            chosen on other scenes.
        things: percent, mean IoU of the things alone.
        scale, threshold: of Eq. 8.
    """

    path: str
    miou: float
    things: float
    scale: float
    threshold: float


@dataclass(frozen=True)
class Measures:
    """Figures over held-out scenes, in percent.

    Attributes:
        naming: scenes with one thing that "a photo of a {thing}" names, of 14.
        naming_in_scene: scenes with one to four things in which the most similar name is one of them.
        retrieval: captions and pictures that find each other among `scenes`, mean of both directions.
        background: mIoU of calling everything background.
        supervised: mIoU of a linear map from the same patches to the classes, fitted to the masks
            of as many other scenes. A CLIP has no masks to learn from.
        segmented: one for each path.
        scenes: how many of each kind.
    """

    naming: float
    naming_in_scene: float
    retrieval: float
    background: float
    supervised: float
    segmented: tuple[Segmented, ...]
    scenes: int

    def to_json(self) -> dict:
        return asdict(self)

    def markdown(self) -> str:
        """A table for people."""
        rows = [
            ("names the thing of a scene with one, of 14", self.naming),
            ("names a thing of a scene with one to four", self.naming_in_scene),
            (f"picture and caption find each other among {self.scenes}", self.retrieval),
            ("mIoU, everything background", self.background),
            *(
                (f"mIoU, `{one.path}`, scale {one.scale:g}, threshold {one.threshold:g}", one.miou)
                for one in self.segmented
            ),
            ("mIoU, linear map of the patches, fitted to masks", self.supervised),
        ]
        lines = [f"| {self.scenes} held-out scenes of each kind | % |", "|---|---:|"]
        return "\n".join(lines + [f"| {name} | {value:.1f} |" for name, value in rows])


class DrawnScenes:
    """Scenes as a benchmark: what the calibration and the segmenter read of one.

    Attributes:
        pictures: uint8 of shape (N, side, side, 3).
        truths: the class of every pixel, int16 of shape (N, side, side); 0 is the background.
    """

    names = NAMES
    class_names = ("background", *NAMES)

    def __init__(self, painter: Painter, scenes: Sequence[Scene]):
        self.keys = range(len(scenes))
        pictures, truths = [], []
        for scene in scenes:
            picture, owner = painter.draw(scene)
            classes = [0, *(1 + NAMES.index(one.thing) for one in scene.placed)]
            pictures.append(picture)
            truths.append(np.array(classes, np.int16)[owner])
        self.pictures, self.truths = np.stack(pictures), np.stack(truths)

    def image(self, key: int) -> Image.Image:
        return Image.fromarray(self.pictures[key])

    def truth(self, key: int) -> np.ndarray:
        return self.truths[key]


def measure(clip: Clip, scenes: int = 300, seed: int = 0) -> Measures:
    """Measures a CLIP on scenes that no training shows (their seeds are others).

    Args:
        clip: the model.
        scenes: how many of each kind.
        seed: the data set's.
    """
    held_out = list(samples("held-out", scenes, seed))
    alone, single, several, tuning = _scenes(clip.image_size, scenes, seed)
    names = class_embeddings(Dense("clip", clip), NAMES)  # (classes, D)
    texts = clip.encode_texts([one.caption.text for one in held_out])  # (N, D)
    pictures = embed(clip, several.pictures)  # (N, D)
    match = (pictures @ texts.T).cpu()  # (N, N)
    here = torch.arange(scenes)
    found = [(match.argmax(way) == here).float().mean().item() for way in (0, 1)]
    said = (embed(clip, single.pictures) @ names.T).argmax(1).tolist()
    said_in = (pictures @ names.T).argmax(1).tolist()
    depths = range(1, len(clip.visual.transformer.resblocks) + 1)
    paths = [ImagePath(NONE), ImagePath(MASKCLIP), *(ImagePath(SURGERY, one) for one in depths)]
    nothing = ConfusionMatrix(CLASSES)
    nothing.add(several.truths, np.zeros_like(several.truths))
    return Measures(
        naming=_percent(NAMES[i] == s.placed[0].thing for i, s in zip(said, alone, strict=True)),
        naming_in_scene=_percent(
            NAMES[i] in {p.thing for p in one.scene.placed}
            for i, one in zip(said_in, held_out, strict=True)
        ),
        retrieval=100 * sum(found) / 2,
        background=100 * float(nothing.miou),
        supervised=_supervised(clip, tuning, several),
        segmented=tuple(_segmented(clip, path, names, tuning, several) for path in paths),
        scenes=scenes,
    )


@torch.no_grad()
def embed(clip: Clip, pictures: np.ndarray) -> Tensor:
    """Unit-length embeddings of pictures, uint8 (N, side, side, 3), by the class token: (N, D)."""
    parts = [
        F.normalize(clip.model.encode_image(normalise(part, clip.mean, clip.std)).float(), dim=-1)
        for part in torch.from_numpy(pictures).split(_BATCH)
    ]
    return torch.cat(parts)


def _segmented(
    clip: Clip, path: ImagePath, names: Tensor, tuning: DrawnScenes, asked: DrawnScenes
) -> Segmented:
    """Scores one path as the evaluator does: scale and threshold by one scene set, mIoU by another."""
    dense = Dense("clip", clip, path=path)
    whole = inference_of(PAPER, size=0, window=0)
    chosen = for_segmentation(dense, tuning, whole, SCALES, THRESHOLDS)
    segmenter = Segmenter(dense, names, chosen, background=chosen.threshold)
    matrix = ConfusionMatrix(CLASSES)
    for key in asked.keys:
        matrix.add(asked.truth(key), segmenter.label_maps([asked.image(key)])[0])
    name = path.mode + (f" {path.depth}" if path.mode == SURGERY else "")
    iou = 100 * matrix.iou
    return Segmented(
        name, float(np.nanmean(iou)), float(np.nanmean(iou[1:])), chosen.scale, chosen.threshold
    )


@torch.no_grad()
def _supervised(clip: Clip, known: DrawnScenes, asked: DrawnScenes) -> float:
    """mIoU in percent of logistic regression from patch tokens to each class's share of the patch."""
    side, patch = clip.image_size, clip.patch_size

    def tokens(pictures: np.ndarray) -> Tensor:  # (patches of all pictures, width + 1)
        parts = [
            clip.visual.ln_post(
                image_tokens(
                    clip.visual, normalise(part, clip.mean, clip.std), ImagePath(NONE), False
                ).patches
            ).flatten(0, 1)
            for part in torch.from_numpy(pictures).split(_BATCH)
        ]
        return F.pad(torch.cat(parts), (0, 1), value=1.0)

    truth = F.one_hot(torch.from_numpy(known.truths).long(), CLASSES).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(truth, patch).permute(0, 2, 3, 1).reshape(-1, CLASSES)
    x = tokens(known.pictures)
    weights = torch.zeros(x.shape[1], CLASSES, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.05)
    with torch.enable_grad():
        for _ in range(_FITTING):
            optimiser.zero_grad()
            F.cross_entropy(x @ weights, shares).backward()
            optimiser.step()
    grid = (len(asked.keys), side // patch, side // patch, CLASSES)
    maps = (tokens(asked.pictures) @ weights).softmax(1).view(grid).permute(0, 3, 1, 2)
    full = F.interpolate(maps, size=side, mode="bilinear", align_corners=False)
    matrix = ConfusionMatrix(CLASSES)
    matrix.add(asked.truths, full.argmax(1).numpy().astype(np.int16))
    return 100 * float(matrix.miou)


@lru_cache(1)  # a training measures again and again on the same scenes
def _scenes(
    side: int, count: int, seed: int
) -> tuple[list[Scene], DrawnScenes, DrawnScenes, DrawnScenes]:
    """Scenes with one thing; the same drawn; then the held-out scenes, and those to tune on."""
    painter = Painter(side)
    rng = random.Random(f"{seed} alone")
    alone = [draw_scene(rng, Choice(counts=(1,))) for _ in range(count)]
    held_out, tuning = (
        [one.scene for one in samples(kind, count, seed)] for kind in ("held-out", "tuning")
    )
    return alone, *(DrawnScenes(painter, scenes) for scenes in (alone, held_out, tuning))


def _percent(truths) -> float:
    return 100 * float(np.mean(list(truths)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""

    def work(settings: Settings) -> str:
        return measure(load_clip(settings.model, None), settings.scenes, settings.seed).markdown()

    return run_command(__doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
