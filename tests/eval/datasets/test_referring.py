"""Referring expressions are read as plain data, and missing files are named."""

from __future__ import annotations

import os
import pickle
import shutil

import pytest

from common.errors import UserError
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
