"""Folders: whole files or none, locks, and disks that are full or closed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pyarrow as pa
import pytest

from common import storage
from common.errors import UserError
from common.storage import Folder, inside_ray_copy


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path, memory):
    """A new folder on each kind of file system."""
    made = Folder(tmp_path / "run" if request.param == "local" else "memory://bucket/run")
    made.make()
    return made


@pytest.fixture
def disk(tmp_path):
    """A real file system of its own, 1 MB large; give it `mount` options to change it."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a small file system")

    mount("size=1m")
    yield path, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "-l", str(path)], check=False)


def test_what_is_written_can_be_read_listed_and_removed(folder):
    table = pa.table({"n": [1, 2], "text": ["a", "b"]})
    folder.write("a.bin", b"old")
    folder.write("a.bin", b"new")
    folder.write_json("b.json", {"text": "ü"})
    folder.write_table("c.parquet", table)
    assert folder.read("a.bin") == b"new"
    assert folder.read_json("b.json") == {"text": "ü"}
    assert folder.read_table("c.parquet").equals(table)
    assert folder.read_table("c.parquet", ["text"]).column_names == ["text"]
    assert folder.names() == ["a.bin", "b.json", "c.parquet"]
    assert folder.names(".json") == ["b.json"]
    folder.remove("a.bin")
    folder.remove("a.bin")
    assert not folder.exists("a.bin")
    folder.remove_all(".json")
    assert folder.names() == ["c.parquet"]


def test_a_folder_inside_a_folder(folder):
    inner = folder.sub("captions")
    assert inner.names() == []
    inner.make()
    inner.write("x", b"1")
    assert Folder(inner.url).read("x") == b"1"
    assert folder.exists("captions")


def test_json_that_is_damaged_is_told(folder):
    folder.write("a.json", b'{"cut')
    with pytest.raises(UserError, match=r"run/a.json is damaged"):
        folder.read_json("a.json")


def test_an_unknown_file_system_is_told():
    with pytest.raises(UserError, match="cannot open the folder nosuch://bucket"):
        Folder("nosuch://bucket")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "no room left in .*: free some space and run the same command"),
        (errno.EDQUOT, "no room left in"),
        (errno.EIO, "cannot write to .*: Input/output error"),
    ],
)
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, failing, number, sentence
):
    folder = Folder(tmp_path)
    folder.write("a.bin", b"old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(UserError, match=sentence):
        folder.write("a.bin", b"new")
    assert folder.read("a.bin") == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Renaming first would show an empty file after a power cut."""
    folder, done = Folder(tmp_path), []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *a: (done.append("rename"), replace(*a)))
    folder.write("a.bin", b"x")
    assert done == ["sync", "rename", "sync"]


def test_a_store_that_cannot_flush_a_folder_is_written_to_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "no")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    Folder(tmp_path).write("a.bin", b"x")
    assert Folder(tmp_path).read("a.bin") == b"x"


def test_a_full_disk_is_told_and_the_old_file_is_still_there(disk):
    path, remount = disk
    folder = Folder(path)
    folder.write("a.bin", b"old")
    with pytest.raises(UserError, match="no room left in"):
        folder.write("a.bin", os.urandom(2 << 20))
    assert folder.read("a.bin") == b"old"
    assert os.listdir(path) == ["a.bin"]
    remount("size=4m")
    folder.write("a.bin", bytes(2 << 20))
    assert len(folder.read("a.bin")) == 2 << 20


def test_a_read_only_disk_is_told(disk):
    path, remount = disk
    Folder(path).write("a.bin", b"old")
    remount("ro")
    for act in (
        lambda: Folder(path).write("b.bin", b""),
        lambda: Folder(path / "new").make(),
        lambda: Folder(path).lock().__enter__(),
    ):
        with pytest.raises(UserError, match=r"cannot write to .*: Read-only file system"):
            act()
    assert Folder(path).read("a.bin") == b"old"


def test_a_folder_where_a_file_is_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for url in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(UserError, match="cannot write to"):
            Folder(url).make()


HOLDER = """
import sys
from common.storage import Folder
with Folder(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_one_process_at_a_time_holds_a_folder_and_a_kill_lets_go(tmp_path, root):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another run is writing to"), Folder(tmp_path).lock():
            pass
    finally:
        holder.kill()
        holder.communicate()
    for _ in range(2):
        with Folder(tmp_path).lock():
            pass


def test_waiting_for_a_lock_ends_when_its_holder_lets_go(tmp_path):
    order = []

    def wait() -> None:
        with Folder(tmp_path).lock(wait=True):
            order.append("waiting thread")

    with Folder(tmp_path).lock():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)
        order.append("holder")
    thread.join(30)
    assert order == ["holder", "waiting thread"]


def test_a_file_written_aside_has_its_name_only_after_the_block(tmp_path):
    folder = Folder(tmp_path)
    with folder.aside("a.bin") as path:
        path.write_bytes(b"new")
        assert not folder.exists("a.bin")
    assert folder.read("a.bin") == b"new"


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    folder = Folder(tmp_path)
    folder.write("a.bin", b"old")

    def interrupted() -> None:
        with folder.aside("a.bin") as path:
            path.write_bytes(b"half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert folder.read("a.bin") == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_what_a_killed_writer_left_aside_is_not_listed_and_can_be_cleared(tmp_path):
    folder = Folder(tmp_path)
    folder.write("part-000000.parquet", b"x")
    (tmp_path / ".part-000001.parquet.4711").write_bytes(b"half of it")
    (tmp_path / ".lock").touch()
    assert folder.names() == ["part-000000.parquet"]
    folder.remove_leftovers()
    assert sorted(os.listdir(tmp_path)) == [".lock", "part-000000.parquet"]


def test_rays_copy_of_the_working_directory_is_recognised(tmp_path, monkeypatch):
    copy = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    assert not inside_ray_copy("data/tags")
    monkeypatch.chdir(copy)
    assert inside_ray_copy("data/tags")
    assert not inside_ray_copy(str(tmp_path / "tags"))
    assert not inside_ray_copy("s3://bucket/runtime_resources/tags")


@pytest.mark.parametrize("trouble", ["fails", "cuts"])
def test_a_remote_write_that_fails_or_is_cut_off_is_made_again(memory, monkeypatch, trouble):
    monkeypatch.setattr(storage, "_PAUSES", (0.0, 0.0))
    folder, put, left = Folder("memory://bucket/run"), memory.pipe_file, [1, 1]

    def unreliable(path, data, **options):
        if left:
            left.pop()
            if trouble == "fails":
                raise OSError(errno.EIO, "the network sneezed")
            data = data[:-3]
        put(path, data, **options)

    monkeypatch.setattr(folder.fs, "pipe_file", unreliable)
    folder.write("a", b"all of it")
    assert folder.read("a") == b"all of it"
    left += [1, 1, 1]
    with pytest.raises(UserError, match=r"cannot write to memory://bucket/run: "):
        folder.write("b", b"all of it")


@pytest.mark.parametrize("trouble", ["fails", "cuts"])
def test_a_remote_read_that_fails_or_is_cut_off_is_made_again(memory, monkeypatch, trouble):
    monkeypatch.setattr(storage, "_PAUSES", (0.0, 0.0))
    folder, get, left = Folder("memory://bucket/run"), memory.cat_file, [1, 1]
    folder.write("a", b"all of it")

    def unreliable(path, **options):
        if left:
            left.pop()
            if trouble == "fails":
                raise OSError(errno.EIO, "the network sneezed")
            return get(path, **options)[:-3]
        return get(path, **options)

    monkeypatch.setattr(folder.fs, "cat_file", unreliable)
    assert folder.read("a") == b"all of it"
    left += [1, 1, 1]
    with pytest.raises(OSError, match=r"sneezed|bytes arrived"):
        folder.read("a")
    with pytest.raises(FileNotFoundError):
        Folder("memory://bucket/run").read("nothing")
