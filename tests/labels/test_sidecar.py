from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labels.sidecar import cached_arrays

EXPECTED = {"ends": [0, 2, 3], "data": [7, 8, 9], "nothing": []}


class Builder:
    """Makes the arrays of `EXPECTED`, and counts how often it is asked to."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        specs = {"ends": ("int64", (3,)), "data": ("uint8", (3,)), "nothing": ("int32", (0,))}

        def fill(arrays):
            for name, values in EXPECTED.items():
                arrays[name][:] = values

        return specs, fill


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "labels" / "x.parquet"
    path.parent.mkdir()
    path.write_bytes(b"labels")
    return path


def _open(source, builder, identity="one") -> dict:
    arrays = cached_arrays(source, ".csr", identity, builder)
    return {name: array.tolist() for name, array in arrays.items()}


def test_arrays_are_built_once_and_mapped_from_then_on(source):
    builder = Builder()
    first = cached_arrays(source, ".csr", "one", builder)
    assert {name: str(array.dtype) for name, array in first.items()} == {
        "ends": "int64",
        "data": "uint8",
        "nothing": "int32",
    }
    assert _open(source, builder) == _open(source, builder) == EXPECTED
    assert builder.calls == 1


def test_every_array_is_a_file_that_numpy_reads(source):
    _open(source, Builder())
    folder = source.with_name("x.parquet.csr")
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    assert names == ["data.npy", "ends.npy", "nothing.npy", "source.json"]
    assert {name: np.load(folder / f"{name}.npy").tolist() for name in EXPECTED} == EXPECTED


def test_what_is_written_into_the_arrays_is_not_kept(source):
    cached_arrays(source, ".csr", "one", Builder())["data"][0] = 0
    assert _open(source, Builder()) == EXPECTED


def test_another_version_of_the_source_gets_arrays_of_its_own(source):
    builder = Builder()
    earlier = cached_arrays(source, ".csr", "one", builder)
    _open(source, builder, "two")
    assert builder.calls == 2
    assert earlier["data"].tolist() == EXPECTED["data"]  # the mapping outlives its file


FILES = ("data.npy", "ends.npy", "nothing.npy", "source.json")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), keep=st.integers(0, 200), garbage=st.binary(max_size=80))
def test_a_damaged_file_is_built_again(source, name, keep, garbage):
    builder = Builder()
    _open(source, builder)
    path = source.with_name("x.parquet.csr") / name
    whole = path.read_bytes()
    damaged = whole[:keep] + garbage
    path.write_bytes(damaged)
    arrays = _open(source, builder)
    assert arrays.keys() == EXPECTED.keys()
    if name == "source.json" or not damaged.startswith(whole[:128]):
        assert arrays == EXPECTED


def _delete_data(folder):
    (folder / "data.npy").unlink()


def _other_shape(folder):
    np.save(folder / "data.npy", np.zeros(4, dtype=np.uint8))


def _other_dtype(folder):
    np.save(folder / "data.npy", np.zeros(3, dtype=np.int8))


def _pickled_objects(folder):
    np.save(folder / "data.npy", np.array([{}, [], ()], dtype=object), allow_pickle=True)


def _no_arrays(folder):
    (folder / "source.json").write_text(json.dumps({"source": "one"}))


def _not_an_object(folder):
    (folder / "source.json").write_text("[1, 2]")


def _nested_too_deep(folder):
    (folder / "source.json").write_text("[" * 100_000)


def _a_file_in_its_place(folder):
    shutil.rmtree(folder)
    folder.write_bytes(b"\x10\0\0\0\0\0\0\0{} of another program")


@pytest.mark.parametrize(
    "damage",
    [
        _delete_data,
        _other_shape,
        _other_dtype,
        _pickled_objects,
        _no_arrays,
        _not_an_object,
        _nested_too_deep,
        _a_file_in_its_place,
    ],
)
def test_a_foreign_or_incomplete_sidecar_is_built_again(source, damage):
    builder = Builder()
    _open(source, builder)
    damage(source.with_name("x.parquet.csr"))
    assert _open(source, builder) == _open(source, builder) == EXPECTED
    assert builder.calls == 2


def test_a_build_that_fails_leaves_no_sidecar_that_could_be_read(source):
    builder = Builder()

    def broken():
        def fill(arrays):
            raise RuntimeError("no")

        return builder()[0], fill

    with pytest.raises(RuntimeError):
        cached_arrays(source, ".csr", "one", broken)
    assert not list(source.parent.rglob("*.npy*"))
    assert _open(source, builder) == EXPECTED
