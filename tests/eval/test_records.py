"""Counts survive a kill, and counts of other settings are never mixed in."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from common.storage import Folder
from eval.records import Records, resume

ONE, TWO = np.diag([1, 0, 0]), np.diag([0, 2, 0])


def test_counts_are_read_back_by_image_from_all_ranks(tmp_path):
    folder = Folder(tmp_path / "out")
    Records(folder, {}, 3).add([("a", ONE)])
    Records(folder, {}, 3, rank=1).add([("b", TWO)])
    records = Records(folder, {}, 3)
    counted = records.read()
    assert set(counted) == {"a", "b"}
    np.testing.assert_array_equal(records.total(counted), ONE + TWO)


def test_an_incomplete_last_line_is_removed_and_its_image_counted_again(tmp_path):
    records = Records(Folder(tmp_path / "out"), {}, 3)
    records.add([("a", ONE), ("b", TWO)])
    file = tmp_path / "out" / "images-0.jsonl"
    file.write_bytes(file.read_bytes()[:-3])
    assert set(records.read()) == {"a"}
    records.add([("b", TWO)])
    np.testing.assert_array_equal(records.total(records.read()), ONE + TWO)


def test_resuming_sums_only_the_images_that_are_asked_for(tmp_path):
    folder = Folder(tmp_path / "out")
    Records(folder, {"scale": 30}, 3).add([("a", ONE), ("b", TWO)])
    _, total, done = resume(folder, {"scale": 30}, 3, ["b", "c"], overwrite=False)
    np.testing.assert_array_equal(total, TWO)
    assert done == {"b"}


def test_overwriting_discards_the_counts_of_other_settings(tmp_path):
    folder = Folder(tmp_path / "out")
    Records(folder, {"scale": 30}, 3).add([("a", ONE)])
    with pytest.raises(UserError, match=r"another scale \(30, now 10\): discard them with --overw"):
        resume(folder, {"scale": 10}, 3, ["a"], overwrite=False)
    _, total, done = resume(folder, {"scale": 10}, 3, ["a"], overwrite=True)
    assert total.sum() == 0
    assert done == set()


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    records = Records(Folder(tmp_path / "out"), {}, 3)
    (tmp_path / "out" / "images-0.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot write to"):
        records.add([("a", ONE)])
