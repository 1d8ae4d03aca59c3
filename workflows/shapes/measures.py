"""How well a CLIP knows the small world: it names, it tells captions apart, its patches segment.

python workflows/shapes/measures.py --model workflows/shapes/clip
"""

from __future__ import annotations

import argparse
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
from torch import Tensor
from torch.nn import functional as F

from eval.class_embeddings import class_embeddings
from eval.confusion import ConfusionMatrix
from parsing.errors import UserError
from training.clip import Clip, load_clip
from training.dense import Dense
from training.model import normalise
from training.surgery import MASKCLIP, NONE, SURGERY, ImagePath, image_tokens, plain_features
from workflows.shapes.dataset import samples
from workflows.shapes.drawing import Painter
from workflows.shapes.world import NAMES, Choice, Scene, draw_scene

SCALES = (5.0, 10.0, 20.0, 40.0)  # of Eq. 8
THRESHOLDS = tuple(np.arange(0.1, 0.96, 0.05).round(2).tolist())
_BATCH = 64
_FITTING = 300  # steps


@dataclass(frozen=True)
class Segmented:
    """How patches segment along one path.

    Attributes:
        path: `none`, `maskclip` or `surgery`, with the depth.
        miou: percent, over background and all things, at the best scale and threshold; these were
            chosen on other scenes than are counted.
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
            of as many other scenes: what no CLIP is told.
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


def measure(clip: Clip, scenes: int = 300, seed: int = 0) -> Measures:
    """Measures a CLIP on scenes that no training shows (their seeds are others).

    Args:
        clip: the model.
        scenes: how many of each kind.
        seed: the data set's.
    """
    held_out = list(samples("held-out", scenes, seed))
    alone, (single, _), (several, truth), (others, others_truth) = _scenes(
        clip.image_size, scenes, seed
    )
    names = class_embeddings(Dense("clip", clip), NAMES)
    texts = clip.encode_texts([one.caption.text for one in held_out])
    pictures = embed(clip, several)
    match = (pictures @ texts.T).cpu()
    here = torch.arange(scenes)
    found = [(match.argmax(way) == here).float().mean().item() for way in (0, 1)]
    said = (embed(clip, single) @ names.T).argmax(1).tolist()
    said_in = (pictures @ names.T).argmax(1).tolist()

    depths = range(1, len(clip.visual.transformer.resblocks) + 1)
    paths = [ImagePath(NONE), ImagePath(MASKCLIP), *(ImagePath(SURGERY, one) for one in depths)]
    segmented = []
    for path in paths:
        scale, threshold = _best(_maps(clip, others, path, names), others_truth)
        matrix = _count(_maps(clip, several, path, names), truth, scale, threshold)
        name = path.mode + (f" {path.depth}" if path.mode == SURGERY else "")
        iou = matrix.iou
        segmented.append(
            Segmented(name, 100 * float(np.nanmean(iou)), 100 * float(np.nanmean(iou[1:])), scale,
                      threshold)
        )  # fmt: skip
    nothing = ConfusionMatrix(len(NAMES) + 1)
    nothing.add(truth, np.zeros_like(truth))
    return Measures(
        naming=_percent(NAMES[i] == s.placed[0].thing for i, s in zip(said, alone, strict=True)),
        naming_in_scene=_percent(
            NAMES[i] in {p.thing for p in one.scene.placed}
            for i, one in zip(said_in, held_out, strict=True)
        ),
        retrieval=100 * sum(found) / 2,
        background=100 * float(nothing.miou),
        supervised=_supervised(clip, (others, others_truth), (several, truth)),
        segmented=tuple(segmented),
        scenes=scenes,
    )


@torch.no_grad()
def embed(clip: Clip, pictures: Tensor) -> Tensor:
    """Unit-length embeddings of pictures, uint8 (n, side, side, 3), by the class token: (n, D)."""
    parts = [
        F.normalize(clip.model.encode_image(normalise(part, clip.mean, clip.std)).float(), dim=-1)
        for part in pictures.split(_BATCH)
    ]
    return torch.cat(parts)


@torch.no_grad()
def _maps(clip: Clip, pictures: Tensor, path: ImagePath, names: Tensor) -> Tensor:
    """Cosines of patches and names, (n, classes, h, w)."""
    found = []
    for part in pictures.split(_BATCH):
        tokens = image_tokens(clip.visual, normalise(part, clip.mean, clip.std), path, False)
        features = F.normalize(plain_features(clip.visual, tokens.patches).float(), dim=-1)
        found.append((features @ names.T).transpose(1, 2).unflatten(2, tokens.grid))
    return torch.cat(found)


@torch.no_grad()
def _supervised(
    clip: Clip, known: tuple[Tensor, np.ndarray], asked: tuple[Tensor, np.ndarray]
) -> float:
    """mIoU in percent of logistic regression from patch tokens to each class's share of the patch."""
    count, side, patch = len(NAMES) + 1, clip.image_size, clip.patch_size

    def tokens(pictures: Tensor) -> Tensor:
        parts = [
            clip.visual.ln_post(
                image_tokens(
                    clip.visual, normalise(part, clip.mean, clip.std), ImagePath(NONE), False
                ).patches
            ).flatten(0, 1)
            for part in pictures.split(_BATCH)
        ]
        return F.pad(torch.cat(parts), (0, 1), value=1.0)

    truth = F.one_hot(torch.from_numpy(known[1]).long(), count).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(truth, patch).permute(0, 2, 3, 1).reshape(-1, count)
    x = tokens(known[0])
    weights = torch.zeros(x.shape[1], count, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.05)
    with torch.enable_grad():
        for _ in range(_FITTING):
            optimiser.zero_grad()
            F.cross_entropy(x @ weights, shares).backward()
            optimiser.step()
    grid = (len(asked[0]), side // patch, side // patch, count)
    maps = (tokens(asked[0]) @ weights).softmax(1).view(grid).permute(0, 3, 1, 2)
    full = F.interpolate(maps, size=side, mode="bilinear", align_corners=False)
    matrix = ConfusionMatrix(count)
    matrix.add(asked[1], full.argmax(1).numpy().astype(np.int16))
    return 100 * float(matrix.miou)


def _best(maps: Tensor, truth: np.ndarray) -> tuple[float, float]:
    best, where = -1.0, (SCALES[0], THRESHOLDS[0])
    for scale in SCALES:
        confidence, label = _upsampled(maps, scale, truth.shape[-1])
        for threshold in THRESHOLDS:
            matrix = ConfusionMatrix(len(NAMES) + 1)
            matrix.add(truth, np.where(confidence < threshold, 0, label + 1).astype(np.int16))
            if matrix.miou > best:
                best, where = float(matrix.miou), (scale, threshold)
    return where


def _count(maps: Tensor, truth: np.ndarray, scale: float, threshold: float) -> ConfusionMatrix:
    confidence, label = _upsampled(maps, scale, truth.shape[-1])
    matrix = ConfusionMatrix(len(NAMES) + 1)
    matrix.add(truth, np.where(confidence < threshold, 0, label + 1).astype(np.int16))
    return matrix


def _upsampled(maps: Tensor, scale: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 8 per patch, then upsampled, as the evaluator does: the best probability and its class."""
    full = F.interpolate((maps * scale).softmax(1), size=side, mode="bilinear", align_corners=False)
    confidence, label = full.max(1)
    return confidence.numpy(), label.numpy()


@lru_cache(1)  # a training measures again and again on the same
def _scenes(side: int, count: int, seed: int):
    """Scenes with one thing, and their pictures and truth; then those held out, and those to tune on."""
    painter = Painter(side)
    lot = random.Random(f"{seed} alone")
    alone = [draw_scene(lot, Choice(counts=(1,))) for _ in range(count)]
    held_out, tuning = (
        [one.scene for one in samples(kind, count, seed)] for kind in ("held-out", "tuning")
    )
    return alone, *(_draw(painter, scenes) for scenes in (alone, held_out, tuning))


def _draw(painter: Painter, scenes: Sequence[Scene]) -> tuple[Tensor, np.ndarray]:
    """Pictures, and the class of every pixel: int16 (n, side, side)."""
    pictures, truths = [], []
    for scene in scenes:
        picture, owner = painter.draw(scene)
        pictures.append(picture)
        classes = [0, *(1 + NAMES.index(one.thing) for one in scene.placed)]
        truths.append(np.array(classes, np.int16)[owner])
    return torch.from_numpy(np.stack(pictures)), np.stack(truths)


def _percent(truths) -> float:
    return 100 * float(np.mean(list(truths)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="an open_clip folder")
    parser.add_argument("--scenes", type=int, default=300, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    values = parser.parse_args(arguments)
    try:
        if values.scenes < 1:
            raise UserError(f"--scenes is at least 1, not {values.scenes}")
        print(measure(load_clip(values.model, None), values.scenes, values.seed).markdown())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
