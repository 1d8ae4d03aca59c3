"""Referring expressions are read as plain data, and missing files are named."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
from PIL import Image

from common.errors import UserError
from eval.datasets.benchmarks import BadImage
from eval.datasets.referring import PlainUnpickler, ReferringSet


def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(small):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(small / "was_run"),)

    (small / "refcoco/refs(unc).p").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(UserError, match=r"it loads posix.mkdir, and only plain data is allowed"):
        ReferringSet("refcoco_val", small)
    assert not (small / "was_run").exists()


def test_pickles_of_python_2_are_read(tmp_path):
    path = tmp_path / "refs.p"
    path.write_bytes(b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xe9'\np3\nsS'ann_id'\np4\nI7\nsa.")
    with open(path, "rb") as file:
        assert PlainUnpickler(file, encoding="latin1").load() == [{"sent": "café", "ann_id": 7}]


def test_missing_files_are_named_with_the_source(small, tmp_path):
    with pytest.raises(UserError, match=r"there is no folder"):
        ReferringSet("refcoco_val", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"refcoco_val lacks .*refs\(unc\).p.*; get it from https"):
        ReferringSet("refcoco_val", tmp_path)
    next((small / "train2014").iterdir()).unlink()
    with pytest.raises(UserError, match=r"is incomplete: 1 of 2 images are missing"):
        ReferringSet("refcoco_val", small)
    shutil.rmtree(small / "train2014")
    with pytest.raises(UserError, match=r"lacks COCO's train2014 images"):
        ReferringSet("refcoco_val", small)
    with pytest.raises(UserError, match=r"there is no benchmark 'refcoco'"):
        ReferringSet("refcoco", small)


def edit(root, work) -> None:
    file = root / "refcoco/instances.json"
    content = json.loads(file.read_text())
    work(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"segmentation": []}, "its segmentation is empty"),
        ({"segmentation": None}, "it has no segmentation"),
        ({"segmentation": [[1, 2, 3, 4]]}, "not a list of at least three points"),
        ({"segmentation": [[60, 60, 70, 60, 70, 70]]}, "has no pixels"),
    ],
    ids=str,
)
def test_a_broken_annotation_is_a_bad_expression(change, why, small):
    edit(small, lambda content: content["annotations"][1].update(change))
    data = ReferringSet("refcoco_val", small)
    [broken, *_] = [e for group in data.expressions.values() for e in group if e.instance == 2]
    with pytest.raises(BadImage, match=why):
        data.mask(broken)


def test_an_image_without_height_is_a_bad_expression(small):
    edit(small, lambda content: [one.pop("height") for one in content["images"]])
    data = ReferringSet("refcoco_val", small)
    [[first, *_], *_] = data.expressions.values()
    with pytest.raises(BadImage, match="no height and width"):
        data.mask(first)


def test_images_of_one_id_and_sentences_of_one_id_are_refused(small):
    edit(small, lambda content: content["images"].append(content["images"][0]))
    with pytest.raises(UserError, match="2 images of id 0: ids are unique"):
        ReferringSet("refcoco_val", small)
    refs = pickle.loads((small / "refcoco+/refs(unc).p").read_bytes())
    (small / "refcoco+/refs(unc).p").write_bytes(pickle.dumps(refs + refs))
    with pytest.raises(UserError, match=r"2 sentences of id .*: ids are unique"):
        ReferringSet("refcoco+_val", small)


def test_annotations_of_one_id_are_refused(small):
    edit(small, lambda content: content["annotations"].append(content["annotations"][0]))
    with pytest.raises(UserError, match="several annotations of one id"):
        ReferringSet("refcoco_val", small)


def test_a_picture_is_turned_as_its_record_says(small):
    data = ReferringSet("refcoco_val", small)
    [image, *_] = data.expressions
    upright = data.picture(image)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(data.path(image), exif=exif)
    assert data.picture(image).size == upright.size
    upright.save(data.path(image), exif=exif)
    assert data.picture(image).size == upright.size
