"""Output folders without room, of other runs or of no one's right are named before a run."""

from __future__ import annotations

import os
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workflows.cc12m.findings import levels, only
from workflows.cc12m.checks.finding import FAILED, OK, WARNING, run_check
from workflows.cc12m.checks.output import check_output


def test_a_new_output_folder_is_ok_and_is_not_made(tmp_path):
    found = run_check("output", lambda: check_output(str(tmp_path / "a" / "b"), 1000))
    assert levels(found) == [OK, OK]
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_a_failure_and_hardly_enough_a_warning(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    found = run_check("output", lambda: check_output(str(tmp_path), free * 2))
    assert "GB free where the run needs about" in only(found, FAILED)
    found = run_check("output", lambda: check_output(str(tmp_path), free / 1.1))
    assert "free some space to be safe" in only(found, WARNING)


def test_a_full_disk_is_a_failure(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(OSError, match="No space left"):
            (disk / "ballast").write_bytes(b"0" * 100_000)
        found = run_check("output", lambda: check_output(str(disk / "tags"), None))
        assert "no room left in" in only(found, FAILED)
        assert [path.name for path in disk.iterdir()] == ["ballast"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_folders_that_a_run_would_refuse_are_failures(tmp_path):
    file = tmp_path / "file"
    file.touch()
    found = run_check("output", lambda: check_output(str(file / "tags"), None))
    assert "is a file" in only(found, FAILED)
    other = tmp_path / "other"
    other.mkdir()
    pq.write_table(pa.table({"a": [1]}), other / "x.parquet")
    found = run_check("output", lambda: check_output(str(other), None))
    assert "holds Parquet files but no run" in only(found, FAILED)
    copy = tmp_path / "runtime_resources" / "x"
    found = run_check("output", lambda: check_output(str(copy), None))
    assert "the copy that Ray makes" in only(found, FAILED)


def test_a_folder_that_another_run_writes_to_is_a_failure(tmp_path):
    from parsing.job.run_folder import RunFolder

    run = RunFolder(str(tmp_path))
    with run.opened({"parser": "fake"}):
        found = run_check("output", lambda: check_output(str(tmp_path), None))
        assert "another run is writing" in only(found, FAILED)
    found = run_check("output", lambda: check_output(str(tmp_path), None))
    assert "the same command goes on" in found[-1].sentence


def test_a_remote_folder_is_written_to(memory):
    found = run_check("output", lambda: check_output("memory://bucket/tags", 1e15))
    assert levels(found) == [OK, OK]
    assert memory.find("/") == []
