"""Writes the small world to disk: captioned pictures, their gold tags, and two benchmarks.

OUT/train/00000.tar ...            webdataset shards: KEY.png, KEY.txt
OUT/gold.jsonl                     of each training caption: key, caption, objects, attributes; and
                                   absent_objects, absent_attributes where it names what is not there
OUT/held_out.jsonl                 the same of the held-out scenes, and the things in each
OUT/segmentation/benchmark.yaml    what the classes are called; images/KEY.png, masks/KEY.png
OUT/referring/                     expressions, in the layout of REFER as split `refcoco_val`
OUT/world.json                     the settings
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from common.errors import UserError
from common.flags import setting
from workflows.command import at_least
from workflows.shapes.captions import SIZE_WORDS, TEXTURE_WORDS, Caption, Manner, write_caption
from workflows.shapes.drawing import SIDE, Painter
from workflows.shapes.world import NAMES, Choice, Placed, Scene, draw_scene

VERSION = 1  # of the layout; a folder of another version is not reused
MANIFEST = "world.json"
THRESHOLD = 0.5  # Eq. 8's, under which a pixel is background
PER_SHARD = 1000
DEFAULT = Manner()
_SEEN = 0.5  # an expression is written for a thing if at least this share of it is visible
_MOST_TRIES = 200


@dataclass(frozen=True)
class Settings:
    """What to write.

    Raises:
        UserError: a number that is too small, or no folder.
    """

    out: str = setting("", "folder to write, which appears whole or not at all", required=True)
    train: int = setting(3000, "captioned scenes for training", metavar="N")
    held_out: int = setting(300, "scenes of each of the two benchmarks", metavar="N")
    seed: int = setting(0, "from which everything follows", metavar="N")
    side: int = setting(SIDE, "pixels of the square pictures", metavar="N")
    absent: float = setting(
        0.0, "share of training captions that also name what the scene does not show", metavar="X"
    )

    def __post_init__(self) -> None:
        if not self.out:
            raise UserError("--out names the folder to write, and is empty")
        at_least(self, train=1, held_out=1, seed=0, side=32)
        if not 0 <= self.absent <= 1:
            raise UserError(f"--absent is a share from 0 to 1, not {self.absent}")

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"version": VERSION, "things": list(NAMES)}
        if not self.absent:  # as in worlds that were written before there was a choice
            del values["absent"]
        return {key: value for key, value in values.items() if key != "out"}


@dataclass(frozen=True)
class Sample:
    """A scene with its caption.

    Attributes:
        key: unique in its set.
        scene, caption: see `Scene` and `Caption`.
    """

    key: str
    scene: Scene
    caption: Caption

    def to_json(self) -> dict[str, Any]:
        """A line of gold tags, as `eval.parser_scores.gold` reads them."""
        return {
            "key": self.key,
            "caption": self.caption.text,
            "objects": list(self.caption.objects),
            "attributes": [list(pair) for pair in self.caption.attributes],
        } | self._absent()

    def _absent(self) -> dict[str, Any]:
        if not self.caption.absent_objects:
            return {}
        return {
            "absent_objects": list(self.caption.absent_objects),
            "absent_attributes": [list(pair) for pair in self.caption.absent_attributes],
        }


def samples(kind: str, count: int, seed: int, manner: Manner = DEFAULT) -> Iterator[Sample]:
    """Captioned scenes; each depends only on the seed, the kind, its number and the manner."""
    for number in range(count):
        rng = random.Random(f"{seed} {kind} {number}")
        scene = draw_scene(rng)
        yield Sample(f"{number:08d}", scene, write_caption(scene, rng, manner))


def write_world(settings: Settings) -> bool:
    """Writes everything, aside, and then under its name.

    Returns:
        whether it was written; False where the same was there already.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    out = Path(settings.out)
    if out.exists():
        if not out.is_dir():
            raise UserError(f"{out} is a file, and --out names a folder")
        if _made_from(out) == settings.to_json():
            return False
        if any(out.iterdir()):
            raise UserError(
                f"{out} holds something else than this world: remove it, or name another --out"
            )
    try:
        with written_whole(out) as aside:
            _write_all(aside, settings)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    return True


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block ends; nothing is left of it otherwise."""
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        yield aside
        for folder, _, names in os.walk(
            aside
        ):  # files reach the disk before the folder gets its name
            for name in (*names, "."):
                descriptor = os.open(Path(folder) / name, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        if out.exists():
            out.rmdir()  # only where it is empty
        os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_all(root: Path, settings: Settings) -> None:
    painter = Painter(settings.side)
    manner = Manner(absent=settings.absent)
    train = list(samples("train", settings.train, settings.seed, manner))
    held_out = list(samples("held-out", settings.held_out, settings.seed))
    for start in range(0, len(train), PER_SHARD):
        path = root / "train" / f"{start // PER_SHARD:05d}.tar"
        path.parent.mkdir(exist_ok=True)
        _write_shard(path, train[start : start + PER_SHARD], painter)
    _write_lines(root / "gold.jsonl", (one.to_json() for one in train))
    _write_lines(
        root / "held_out.jsonl",
        (one.to_json() | {"things": [p.thing for p in one.scene.placed]} for one in held_out),
    )
    _write_segmentation(root / "segmentation", held_out, painter)
    _write_referring(root / "referring", settings, painter)
    _write_json(root / MANIFEST, settings.to_json())


def _write_shard(path: Path, group: list[Sample], painter: Painter) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for one in group:
            picture = _png(painter.draw(one.scene)[0])
            for ending, data in (("png", picture), ("txt", one.caption.text.encode())):
                member = tarfile.TarInfo(f"{one.key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _write_segmentation(root: Path, group: list[Sample], painter: Painter) -> None:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    about = {"title": "Shapes", "source": "workflows/shapes/make.py", "background": True}
    about |= {"threshold": THRESHOLD, "ignore": [], "first": 1, "classes": list(NAMES)}
    (root / "benchmark.yaml").write_text(yaml.safe_dump(about, sort_keys=False), "utf-8")
    for one in group:
        picture, owner = painter.draw(one.scene)
        classes = [0, *(1 + NAMES.index(placed.thing) for placed in one.scene.placed)]
        (root / "images" / f"{one.key}.png").write_bytes(_png(picture))
        (root / "masks" / f"{one.key}.png").write_bytes(_png(np.array(classes, np.uint8)[owner]))


def _write_referring(root: Path, settings: Settings, painter: Painter) -> None:
    (root / "images" / "train2014").mkdir(parents=True)
    (root / "refcoco").mkdir()
    side = settings.side
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    for number in range(settings.held_out):
        scene, picture, owner, found = _referring_scene(number, settings, painter)
        name = f"{number:08d}.png"
        (root / "images" / "train2014" / name).write_bytes(_png(picture))
        images.append({"id": number, "file_name": name, "height": side, "width": side})
        for index, placed in enumerate(scene.placed):
            identity = len(annotations) + 1
            both = {"image_id": number, "category_id": 1 + NAMES.index(placed.thing)}
            annotations.append({"id": identity, **both, **_coco_mask(owner == index + 1)})
            if index in found:
                refs.append(_ref(len(refs), identity, both, name, found[index]))
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    _write_json(root / "refcoco" / "instances.json", content)
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


def _coco_mask(mask: np.ndarray) -> dict[str, Any]:
    """The mask of one thing, bool of shape (side, side), as an annotation of COCO has it."""
    runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
        "area": int(mask.sum()),
        "bbox": coco_mask.toBbox(runs).tolist(),
        "iscrowd": 0,
    }


def _ref(
    number: int, annotation: int, both: dict[str, int], file: str, text: str
) -> dict[str, Any]:
    """One expression, as a file of REFER has it."""
    sentence = {"sent_id": number, "sent": text, "raw": text, "tokens": text.split()}
    return {
        "ref_id": number,
        "ann_id": annotation,
        **both,
        "file_name": file,
        "split": "val",
        "sent_ids": [number],
        "sentences": [sentence],
    }


def _referring_scene(
    number: int, settings: Settings, painter: Painter
) -> tuple[Scene, np.ndarray, np.ndarray, dict[int, str]]:
    """A scene with several of one thing, drawn, and the expressions that single them out."""
    rng = random.Random(f"{settings.seed} referring {number}")
    for _ in range(_MOST_TRIES):
        two = rng.sample(NAMES, 2)
        scene = draw_scene(rng, Choice(counts=(2, 3, 3, 4), things=(two[0], two[0], two[1])))
        picture, owner = painter.draw(scene)
        found = {}
        for index, placed in enumerate(scene.placed):
            alone = painter.draw(Scene(scene.ground, (placed,), scene.light))[1] > 0
            seen = (owner == index + 1).sum()
            rivals = [p for p in scene.placed if p is not placed and p.thing == placed.thing]
            text = expression(placed, rivals, rng) if rivals else None
            if text is not None and seen >= _SEEN * alone.sum():
                found[index] = text
        if found:
            return scene, picture, owner, found
    raise AssertionError(f"no scene for expressions in {_MOST_TRIES} draws")


def expression(placed: Placed, rivals: Iterable[Placed], rng: random.Random) -> str | None:
    """Words that single out one thing of several of its kind, such as `large red ball`.

    Attributes are added at random until no rival has all of them, and sometimes one more.

    Returns:
        None where no words single it out.
    """
    words = {
        "size": SIZE_WORDS.get(placed.size),
        "texture": TEXTURE_WORDS.get(placed.texture),
        "colour": (placed.colour,),
    }
    left = list(rivals)
    usable = [kind for kind in words if words[kind]]
    rng.shuffle(usable)
    told: list[str] = []
    for kind in usable:
        if left or rng.random() < 0.3:
            told.append(kind)
            left = [one for one in left if getattr(one, kind) == getattr(placed, kind)]
    if left:
        return None
    chosen = [rng.choice(words[kind]) for kind in words if kind in told]
    return " ".join((*chosen, placed.thing))


def _png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


def _write_lines(path: Path, values: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")


def _made_from(folder: Path) -> Any:
    try:
        return json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return None
