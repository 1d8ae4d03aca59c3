"""A run's folder: whose it is, what is committed, and what a crash leaves behind."""

from __future__ import annotations

import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from common.storage import Folder
from parsing.job.run_folder import MANIFEST, RunFolder
from parsing.tags import TAGS, Parsed, tags_table

FINGERPRINT = {"parser": "llm", "model": "m", "sampling": {"temperature": 0.0}, "pairs": (1, 2)}


def table(first: int = 0, rows: int = 3) -> pa.Table:
    ids = range(first, first + rows)
    return tags_table(ids, [f"caption {n}" for n in ids], [Parsed(objects=["dog"]) for _ in ids])


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path, memory):
    return RunFolder(str(tmp_path / "run") if request.param == "local" else "memory://bucket/run")


def test_the_same_run_may_come_back(run):
    for _ in range(2):
        with run.opened(FINGERPRINT):
            assert run.manifest()["fingerprint"]["model"] == "m"


def test_another_run_is_refused_and_says_what_differs(run):
    with run.opened(FINGERPRINT):
        pass
    before = run.manifest()
    other = FINGERPRINT | {"model": "n", "prompt": "p"}
    with (
        pytest.raises(UserError, match=r"belongs to a run with another model, prompt: give"),
        run.opened(other),
    ):
        pass
    assert run.manifest() == before


def test_a_folder_with_other_peoples_parquet_is_refused(run):
    run.folder.make()
    run.folder.write_table("mine.parquet", table())
    with pytest.raises(UserError, match="holds Parquet files but no run"), run.opened(FINGERPRINT):
        pass
    assert run.folder.names() in (["mine.parquet"], [".lock", "mine.parquet"])


def test_a_damaged_manifest_is_told(run):
    run.folder.make()
    run.folder.write(MANIFEST, b"{")
    with pytest.raises(UserError, match=r"manifest.json is damaged"), run.opened(FINGERPRINT):
        pass


def test_the_manifest_keeps_what_is_not_updated(run):
    with run.opened(FINGERPRINT):
        run.update_manifest(shards=3)
        run.update_manifest(finished=True)
    manifest = run.manifest()
    assert (manifest["shards"], manifest["finished"]) == (3, True)
    assert manifest["fingerprint"]["parser"] == "llm"


def test_committed_shards_are_those_with_stats(run):
    with run.opened(FINGERPRINT):
        run.commit(0, table(0), {"rows": 3})
        run.commit(12, table(3), {"rows": 3})
        run.folder.write_table("part-000005.parquet", table(6))  # killed before its stats
    assert sorted(run.committed()) == [0, 12]
    stats = run.committed()[12]
    assert stats["rows"] == 3
    assert stats["committed"] > 1e9
    assert run.stats(12) == stats
    assert run.read(12).equals(table(3))
    assert run.read(12, ["caption_id"]).to_pydict() == {"caption_id": [3, 4, 5]}


@pytest.mark.parametrize("damage", ["gone", "cut", "rows", "stats"])
def test_a_committed_shard_whose_files_are_gone_or_cut_is_to_be_parsed_again(run, damage):
    with run.opened(FINGERPRINT):
        run.commit(0, table(0), {"rows": 3})
        run.commit(1, table(3), {"rows": 3})
        name = "part-000001.json" if damage == "stats" else "part-000001.parquet"
        if damage == "gone":
            run.folder.remove(name)
        elif damage == "rows":
            run.folder.write_table(name, table(3, rows=2))
        else:
            run.folder.write(name, run.folder.read(name)[:-9])
        assert list(run.committed()) == [0]
        run.commit(1, table(3), {"rows": 3})
        assert list(run.committed()) == [0, 1]


@pytest.mark.parametrize("of", ["another run", "another place"])
def test_a_shard_that_another_one_replaced_is_to_be_parsed_again(tmp_path, of):
    """Its rows and its stats agree, but they are of other captions."""
    runs = [RunFolder(str(tmp_path / name)) for name in ("run", "other")]
    for run in runs:
        with run.opened(FINGERPRINT):
            run.commit(0, table(0), {"rows": 3})
            run.commit(1, table(3), {"rows": 3})
    taken, number = (runs[1], 1) if of == "another run" else (runs[0], 0)
    for ending in ("parquet", "json"):
        data = taken.folder.read(f"part-{number:06d}.{ending}")
        runs[0].folder.write(f"part-000001.{ending}", data)
    assert list(runs[0].committed()) == [0]
    with runs[0].opened(FINGERPRINT):
        runs[0].commit(1, table(3), {"rows": 3})
    assert list(runs[0].committed()) == [0, 1]


def test_a_copied_run_and_shards_that_do_not_tell_their_place_stay_committed(tmp_path):
    run = RunFolder(str(tmp_path / "run"))
    with run.opened(FINGERPRINT):
        run.commit(0, table(0), {"rows": 3})
        run.commit(1, table(3), {"rows": 3})
        pq.write_table(table(3), tmp_path / "run" / "part-000001.parquet")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert list(RunFolder(str(tmp_path / "copy")).committed()) == [0, 1]


def test_a_shard_is_committed_only_by_its_stats_which_come_last(tmp_path, monkeypatch):
    """Whatever fails in between leaves a shard to be parsed again, never half a one."""
    run = RunFolder(str(tmp_path))
    replace, names = os.replace, []

    def fail_on_the_second(source, target):
        names.append(os.path.basename(target))
        if len(names) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with run.opened(FINGERPRINT):
        monkeypatch.setattr(os, "replace", fail_on_the_second)
        with pytest.raises(UserError, match="no room left"):
            run.commit(0, table(), {"rows": 3})
        assert names == ["part-000000.parquet", "part-000000.json"]
        assert run.committed() == {}
        run.commit(0, table(), {"rows": 3})
    assert list(run.committed()) == [0]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".part")]


@pytest.mark.parametrize("writer", ["os.replace", "memory"])
def test_a_kill_between_the_two_writes_of_a_retry_leaves_no_wrong_counts(
    tmp_path, monkeypatch, memory, writer
):
    """The tags are the new ones then, and so are their counts."""
    run = RunFolder(str(tmp_path) if writer == "os.replace" else "memory://bucket/run")
    with run.opened(FINGERPRINT):
        run.commit(0, table(), {"rows": 3, "statuses": {"ok": 2, "failed": 1}})
        write, names = Folder.write, []

        def killed_before_the_second(folder, name, data):
            names.append(name)
            if len(names) == 2:
                raise KeyboardInterrupt
            write(folder, name, data)

        monkeypatch.setattr(Folder, "write", killed_before_the_second)
        with pytest.raises(KeyboardInterrupt):
            run.commit(0, table(), {"rows": 3, "statuses": {"ok": 3, "failed": 0}})
        monkeypatch.undo()
        assert run.stats(0)["statuses"] == {"ok": 2, "failed": 1}
        assert run.committed()[0]["statuses"] == {"ok": 3, "failed": 0}
        assert run.committed(mend=True)[0] == run.stats(0)
        assert run.stats(0)["statuses"] == {"ok": 3, "failed": 0}


def test_a_table_that_breaks_the_contract_is_not_committed(tmp_path):
    run = RunFolder(str(tmp_path))
    with run.opened(FINGERPRINT):
        with pytest.raises(ValueError, match="error"):
            run.commit(0, table().drop_columns(["error"]), {"rows": 3})
        run.commit(1, table().cast(TAGS), {"rows": 3})
    assert list(run.committed()) == [1]
    assert pq.read_schema(tmp_path / "part-000001.parquet").equals(TAGS)


def test_opening_clears_what_killed_writers_left_aside(tmp_path):
    run = RunFolder(str(tmp_path))
    for folder in (tmp_path, tmp_path / "captions", tmp_path / "index"):
        folder.mkdir(exist_ok=True)
        (folder / ".part-000000.parquet.99").write_bytes(b"half")
    with run.opened(FINGERPRINT):
        pass
    assert [path.name for path in tmp_path.rglob(".part*")] == []
    assert json.loads((tmp_path / MANIFEST).read_text())["finished"] is False


def test_a_run_in_another_process_is_not_disturbed(tmp_path):
    run = RunFolder(str(tmp_path))
    with (
        run.opened(FINGERPRINT),
        pytest.raises(UserError, match="another run is writing"),
        RunFolder(str(tmp_path)).opened(FINGERPRINT),
    ):
        pass
