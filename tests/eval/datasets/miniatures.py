"""A miniature of each benchmark's folder: two images with known classes."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from timm.data import ImageNetInfo

from eval.datasets.description import Description

SIZE = (40, 24)  # width, height
KEYS = ("a_000000", "b_000001")


def save_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (3, 5, 3), np.uint8)
    image = Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)
    image.save(path, quality=95) if path.suffix.lower() != ".png" else image.save(path)


def save_mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def values(*numbers: int) -> np.ndarray:
    """A mask of vertical stripes, one per number."""
    columns = np.array(numbers).repeat(-(-SIZE[0] // len(numbers)))[: SIZE[0]]
    return np.broadcast_to(columns, SIZE[::-1]).copy()


def pascal(root: Path, folder: str, masks: str, split: str, keys=KEYS) -> None:
    base = root / folder
    for seed, key in enumerate(keys):
        save_image(base / "JPEGImages" / f"{key}.jpg", seed)
        save_mask(base / masks / f"{key}.png", values(0, 1 + seed, 20, 255))
    save_image(base / "JPEGImages" / "not_in_the_list.jpg", 9)
    (base / split).parent.mkdir(parents=True)
    (base / split).write_text("\n".join(keys) + "\n")


def voc(root: Path) -> None:
    pascal(root, "VOCdevkit/VOC2012", "SegmentationClass", "ImageSets/Segmentation/val.txt")


def context(root: Path) -> None:
    split = "ImageSets/SegmentationContext/val.txt"
    pascal(root, "VOCdevkit/VOC2010", "SegmentationClassContext", split)


def ade20k(root: Path) -> None:
    for seed, key in enumerate(KEYS):
        save_image(root / "ADEChallengeData2016/images/validation" / f"{key}.jpg", seed)
        mask = root / "ADEChallengeData2016/annotations/validation" / f"{key}.png"
        save_mask(mask, values(0, 1 + seed, 150))


def coco_stuff(root: Path, converted: bool = True) -> None:
    for seed, key in enumerate(KEYS):
        save_image(root / "coco_stuff164k/images/val2017" / f"{key}.jpg", seed)
        masks = root / "coco_stuff164k/annotations/val2017"
        save_mask(masks / f"{key}.png", values(255, seed, 181))
        if converted:
            save_mask(masks / f"{key}_labelTrainIds.png", values(255, seed, 170))


def cityscapes(root: Path, converted: bool = True) -> None:
    base = root / "cityscapes"
    for seed, key in enumerate(KEYS):
        city = key[0]
        save_image(base / "leftImg8bit/val" / city / f"{key}_leftImg8bit.png", seed)
        masks = base / "gtFine/val" / city
        save_mask(masks / f"{key}_gtFine_labelIds.png", values(0, 7 + seed, 33))
        if converted:
            save_mask(masks / f"{key}_gtFine_labelTrainIds.png", values(255, seed, 18))


def imagenet_s(root: Path, count: int) -> None:
    synsets = ImageNetInfo("imagenet-1k").label_names()[:count]
    base = root / f"ImageNetS{count}"
    for number, synset in enumerate(synsets, start=1):
        (base / "validation" / synset).mkdir(parents=True)
        if number in (1, count):
            save_image(base / "validation" / synset / "ILSVRC2012_val_1.JPEG", number)
            numbers = values(0, number, 1000)
            channels = np.stack([numbers % 256, numbers // 256, 0 * numbers], -1)
            save_mask(base / "validation-segmentation" / synset / "ILSVRC2012_val_1.png", channels)


def coco_object(root: Path) -> None:
    """A square of class 1 inside one of class 80, by a polygon and by run lengths."""
    names = Description.read("coco_object").classes
    width, height = SIZE
    images, instances = [], []
    for seed, key in enumerate(KEYS):
        save_image(root / "val2017" / f"{key}.jpg", seed)
        name = f"{key}.jpg"
        images.append({"id": seed, "file_name": name, "width": width, "height": height})
        square = [4, 4, 12, 4, 12, 12, 4, 12]
        left_half = {"size": [height, width], "counts": [0, height * 20, height * 20]}
        instances += [
            {"image_id": seed, "category_id": 1, "area": 64, "segmentation": [square]},
            {"image_id": seed, "category_id": 90, "area": 480, "segmentation": left_half},
        ]
    ids = [*range(1, 80), 90]
    categories = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/instances_val2017.json").write_text(
        json.dumps({"images": images, "annotations": instances, "categories": categories})
    )


def make_refer(root: Path, instances: dict, images: Path, most: int = 40) -> Path:
    """A folder in REFER's layout, with two expressions ('the cat', 'that cat') per instance."""
    names = {one["id"]: one["name"] for one in instances["categories"]}
    (root / "train2014").mkdir(parents=True)
    for image in instances["images"]:
        shutil.copy(images / image["file_name"], root / "train2014")
    refs = []
    for number, one in enumerate(instances["annotations"][:most]):
        one.setdefault("id", number + 1)
        sentences = [
            {"sent_id": 2 * number + i, "sent": f"{word} {names[one['category_id']]}"}
            for i, word in enumerate(("the", "that"))
        ]
        split = "val" if number % 4 else "testA"
        refs.append({"ann_id": one["id"], "split": split, "sentences": sentences})
    for name, file in (("refcoco", "refs(unc).p"), ("refcoco+", "refs(unc).p"),
                       ("refcocog", "refs(umd).p")):  # fmt: skip
        (root / name).mkdir()
        (root / name / "instances.json").write_text(json.dumps(instances))
        (root / name / file).write_bytes(pickle.dumps(refs, protocol=2))
    return root


MINIATURES: dict[str, Callable[[Path], None]] = {
    "voc": voc,
    "voc20": voc,
    "context": context,
    "context59": context,
    "coco_object": coco_object,
    "coco_stuff": coco_stuff,
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "imagenet_s50": lambda root: imagenet_s(root, 50),
    "imagenet_s300": lambda root: imagenet_s(root, 300),
}
