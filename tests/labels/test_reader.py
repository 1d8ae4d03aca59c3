from __future__ import annotations

import os
import pickle
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from labels.reader import Labels

ROWS = [("a", "one", [0, 2]), ("b", "", []), ("ç", "dreißig", [1]), ("d", "vier", [0, 1, 2])]


@pytest.fixture
def labels(tmp_path, write_labels) -> Labels:
    return Labels(write_labels(tmp_path / "x.parquet", ROWS))


def test_rows_by_key_and_by_position(labels):
    assert len(labels) == 4
    assert labels["a"].tolist() == labels.row(0).tolist() == [0, 2]
    assert labels["ç"].tolist() == [1]
    assert labels["b"].tolist() == []
    assert "d" in labels
    assert "z" not in labels
    with pytest.raises(KeyError):
        labels["z"]
    for outside in (-1, 4):
        with pytest.raises(IndexError):
            labels.row(outside)
        with pytest.raises(IndexError):
            labels.rows([0, outside])


def test_many_keys_at_once(labels):
    assert labels.positions(["d", "z", "a", "a"]).tolist() == [3, -1, 0, 0]
    assert labels.positions([]).tolist() == []


def test_the_csr_view_is_the_matrix(labels):
    dense = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
    whole = labels.csr()
    assert scipy.sparse.issparse(whole)
    assert np.array_equal(whole.toarray(), dense)
    assert np.shares_memory(whole.indices, labels.indices)
    assert np.array_equal(labels.csr([3, 1, 3], np.float32).toarray(), dense[[3, 1, 3]])
    assert np.array_equal(labels.csr_torch().to_dense().numpy(), dense)
    assert np.array_equal(labels.csr_torch([2, 0], torch.int64).to_dense().numpy(), dense[[2, 0]])


def test_tensors_of_the_whole_matrix_are_not_copies(labels):
    crow, col = labels.rows_torch()
    assert crow.tolist() == [0, 2, 2, 3, 6]
    assert col.data_ptr() == labels.indices.ctypes.data
    crow, col = labels.rows_torch([3, 0])
    assert (crow.tolist(), col.tolist()) == ([0, 3, 5], [0, 1, 2, 0, 2])


def test_frequencies_are_the_vocabulary_s(labels):
    assert labels.frequencies().dtype == torch.float32
    assert labels.frequencies(torch.float64).tolist() == [0.5, 0.3, 0.2]
    assert labels.num_tags == 3


def test_captions_and_keys_of_rows_in_any_order(labels):
    assert labels.captions([3, 1, 2]) == ["vier", "", "dreißig"]
    assert labels.keys([2, 0]) == ["ç", "a"]
    with pytest.raises(IndexError):
        labels.captions([4])


def test_it_travels_to_another_process(labels):
    assert pickle.loads(pickle.dumps(labels))["d"].tolist() == [0, 1, 2]


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    rows=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.sets(st.integers(0, 2)),
        min_size=1,
    ),
    data=st.data(),
)
def test_it_reads_what_was_written(tmp_path_factory, write_labels, rows, data):
    path = tmp_path_factory.mktemp("labels") / "x.parquet"
    written = [(key, f"of {key}", sorted(ids)) for key, ids in rows.items()]
    labels = Labels(write_labels(path, written))
    assert {key: labels[key].tolist() for key in rows} == {k: ids for k, _, ids in written}
    positions = data.draw(st.lists(st.integers(0, len(rows) - 1)))
    indptr, indices = labels.rows(positions)
    assert [p.tolist() for p in np.split(indices, indptr[1:-1])][: len(positions)] == [
        written[p][2] for p in positions
    ]
    assert labels.captions(positions) == [written[p][1] for p in positions]


def test_of_two_rows_with_one_key_the_first_is_found(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", [("a", "", [0]), ("b", "", [1]), ("a", "", [2])])
    labels = Labels(path)
    assert labels["a"].tolist() == [0]
    assert labels.row(2).tolist() == [2]


def test_all_rows_of_a_key_are_found(tmp_path, write_labels):
    rows = [("a", "", [0]), ("b", "", [1]), ("a", "", [2]), ("c", "", []), ("a", "", [1])]
    labels = Labels(write_labels(tmp_path / "x.parquet", rows))
    which, found = labels.matches(["b", "z", "a", "c", "a"])
    assert which.tolist() == [0, 2, 2, 2, 3, 4, 4, 4]
    assert found.tolist() == [1, 0, 2, 4, 3, 0, 2, 4]
    assert [len(part) for part in labels.matches([])] == [0, 0]


def test_a_rewritten_label_file_is_noticed(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", ROWS)
    assert Labels(path)["a"].tolist() == [0, 2]
    write_labels(path, [("a", "one", [1, 2]), *ROWS[1:]])
    assert Labels(path)["a"].tolist() == [1, 2]


def test_the_second_opening_maps_what_the_first_has_built(labels, monkeypatch):
    monkeypatch.setattr("labels.reader._build_csr", None)
    assert Labels(labels.path)["a"].tolist() == [0, 2]


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_cut_off_sidecar_is_built_again(labels, keep):
    for file in labels.path.with_name("x.parquet.csr").glob("*.npy"):
        whole = file.read_bytes()
        file.write_bytes(whole[:keep])
        assert Labels(labels.path)["a"].tolist() == [0, 2]
        assert file.read_bytes() == whole


def test_processes_that_open_it_at_once_agree(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", ROWS)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(Labels(path)["d"].tolist())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[0, 1, 2]] * 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.parquet", "x.parquet.csr"]


def test_beside_a_read_only_folder_the_cache_takes_its_place(tmp_path, write_labels, monkeypatch):
    path = write_labels(tmp_path / "data" / "x.parquet", ROWS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    real = os.makedirs

    def refuse(name, *args, **options):
        if str(name).startswith(str(path.parent)):
            raise PermissionError(13, "Permission denied")
        real(name, *args, **options)

    monkeypatch.setattr("os.makedirs", refuse)  # root may write anywhere, whatever the permissions
    assert Labels(path)["a"].tolist() == [0, 2]
    assert [p.name for p in path.parent.iterdir()] == ["x.parquet"]
    assert len(list((tmp_path / "cache" / "tagalign").iterdir())) == 1


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, write_labels, monkeypatch):
    path = write_labels(tmp_path / "x.parquet", ROWS)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match=r"no room left in .*x\.parquet\.csr: free some space"):
        Labels(path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["x.parquet", ".lock"]


def test_ids_outside_the_vocabulary_are_refused(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", [("a", "", [0, 7])])
    with pytest.raises(UserError, match=r"'tag_ids' of .* has ids outside its 3 tags"):
        Labels(path)


def test_a_damaged_page_names_the_column(tmp_path, write_labels):
    path = write_labels(tmp_path / "x.parquet", ROWS)
    column = pq.read_metadata(path).row_group(0).column(2)
    data = bytearray(path.read_bytes())
    start = column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    with pytest.raises(UserError, match="cannot read column 'tag_ids'"):
        Labels(path)
