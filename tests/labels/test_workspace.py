"""Files of a build get their names together; nothing else is touched, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.errors import UserError
from labels.workspace import PREFIX, Workspace, join, split

NAMES = ("x.parquet", "x.vocab.parquet", ["x.png"])


def _write(folder: Path, text: str, names=("x.parquet", "x.vocab.parquet", "x.png")) -> None:
    for name in names:
        (folder / name).write_text(f"{text} {name}")


def _publish(workspace: Workspace, folder: object, sets=(NAMES,)) -> None:
    with workspace.open(str(folder)) as work:
        for labels, vocabulary, others in sets:
            _write(work, "new", (labels, vocabulary, *others))
        workspace.publish(sets)


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_get_their_names_and_the_folder_goes(tmp_path):
    workspace = Workspace()
    with workspace.open(str(tmp_path / "out")) as work:
        _write(work, "new")
        assert os.listdir(tmp_path / "out") == [work.name]
        workspace.publish([NAMES])
    assert _contents(tmp_path / "out") == {
        name: f"new {name}" for name in ("x.parquet", "x.vocab.parquet", "x.png")
    }


def test_an_earlier_file_without_a_successor_goes(tmp_path):
    """An old picture beside new labels would show other tags."""
    _write(tmp_path, "old")
    workspace = Workspace()
    with workspace.open(str(tmp_path)) as work:
        _write(work, "new", NAMES[:2])
        workspace.publish([NAMES])
    assert sorted(_contents(tmp_path)) == ["x.parquet", "x.vocab.parquet"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("fails", range(1, 7))
def test_a_renaming_that_fails_gives_all_earlier_files_back(tmp_path, monkeypatch, fails, links):
    sets = [NAMES, ("y.parquet", "y.vocab.parquet", ["y.png"])]
    old = ("x.parquet", "x.vocab.parquet", "x.png", "y.parquet", "y.vocab.parquet")
    _write(tmp_path, "old", old)  # y.png is new
    before, calls, replace = _contents(tmp_path), [], os.replace

    def broken(source, target):
        calls.append(target)
        if len(calls) == fails:
            raise OSError(5, "Input/output error")
        replace(source, target)

    def no_links(*_):
        raise OSError(95, "Operation not supported")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(UserError, match=r"cannot write to .*: Input/output error"):
        _publish(Workspace(), tmp_path, sets)
    assert _contents(tmp_path) == before


def test_a_label_file_never_stands_beside_another_vocabulary(tmp_path, monkeypatch):
    """Whenever the process is killed while it renames: that would make the file unreadable."""
    _write(tmp_path, "old")
    seen, replace = [], os.replace

    def watched(source, target):
        seen.append(_contents(tmp_path))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    _publish(Workspace(), tmp_path)
    assert len(seen) == 3
    for files in seen:
        ages = {files[name][:3] for name in NAMES[:2] if name in files}
        assert len(ages) == 1


def test_a_folder_in_the_place_of_a_file_is_told_and_stays(tmp_path):
    (tmp_path / "x.png").mkdir()
    (tmp_path / "x.png" / "mine").write_text("mine")
    with pytest.raises(UserError, match="cannot write to"):
        _publish(Workspace(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png" / "mine").read_text() == "mine"


def test_what_a_dead_process_left_is_cleared_and_what_a_living_one_writes_is_not(tmp_path):
    dead = tmp_path / f"{PREFIX}dead"
    (dead / "spill").mkdir(parents=True)
    (dead / "x.parquet").write_text("half")
    foreign = [tmp_path / f".x.parquet.{os.getpid()}4", tmp_path / f".spill.{os.getpid()}4-abc"]
    for path in foreign:
        path.write_text("another's")
    living = Workspace()
    with living.open(str(tmp_path)) as theirs:
        with Workspace().open(str(tmp_path)) as ours:
            assert ours != theirs
            assert theirs.exists()
            assert not dead.exists()
        assert theirs.exists()
        assert living.abandon()
        assert not theirs.exists()
    assert sorted(tmp_path.iterdir()) == sorted(foreign)


def test_errors_name_the_folder_that_the_user_knows(tmp_path):
    with pytest.raises(UserError) as told, Workspace().open(str(tmp_path)) as work:
        raise UserError(f"no room left in {work}/spill: free some space and run the same command")
    assert str(told.value) == (
        f"no room left in {tmp_path}: free some space and run the same command"
    )


def test_files_go_to_a_remote_file_system_whole(memory):
    workspace = Workspace()
    memory.pipe_file("/bucket/x.png", b"old")
    with workspace.open("memory://bucket") as work:
        _write(work, "new", NAMES[:2])
        workspace.publish([NAMES])
    assert not work.exists()
    assert memory.cat_file("/bucket/x.parquet") == b"new x.parquet"
    assert sorted(memory.ls("/bucket", detail=False)) == [
        "/bucket/x.parquet",
        "/bucket/x.vocab.parquet",
    ]


def test_an_upload_that_fails_is_one_sentence(memory, monkeypatch):
    def denied(*_, **__):
        raise RuntimeError("AccessDenied: not yours\nand more")

    monkeypatch.setattr(type(memory), "put_file", denied)
    with pytest.raises(
        UserError, match=r"^cannot write to memory://bucket: AccessDenied: not yours$"
    ):
        _publish(Workspace(), "memory://bucket")


@pytest.mark.parametrize(
    ("out", "folder", "name"),
    [
        ("x.parquet", ".", "x.parquet"),
        ("a/x.parquet", "a", "x.parquet"),
        ("/x.parquet", "/", "x.parquet"),
        ("s3://bucket/a/x.parquet", "s3://bucket/a", "x.parquet"),
        ("memory://x.parquet", "memory://", "x.parquet"),
        ("file:///a/x.parquet", "file:///a", "x.parquet"),
    ],
)
def test_a_path_or_url_is_a_folder_and_a_name(out, folder, name):
    assert split(out) == (folder, name)
    assert join(folder, name) == out


def test_a_process_that_is_ended_while_it_makes_its_folder_leaves_nothing(tmp_path, monkeypatch):
    workspace, mkdir = Workspace(), Path.mkdir

    def end_at_once(path: Path, *arguments, **options) -> None:
        mkdir(path, *arguments, **options)
        if path.name.startswith(PREFIX):
            assert workspace.abandon()
            raise SystemExit

    monkeypatch.setattr(Path, "mkdir", end_at_once)
    with pytest.raises(SystemExit), workspace.open(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []
