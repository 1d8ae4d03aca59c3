"""Faults on purpose: what they are counted by, and a short campaign of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import fsspec
import pyarrow as pa
import pytest

from common.errors import UserError
from common.storage import Folder
from parsing.tags import FAILED, OK
from workflows import lying_files
from workflows.chaos import Settings, work
from workflows.chaos_faults import FAULTS, POISON
from workflows.chaos_report import Outcome, compare, report
from workflows.listening import Listener


def table(*rows: tuple[int, str, str]) -> pa.Table:
    names = ("caption_id", "caption", "status")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])


EXPECTED = table((0, "a dog", OK), (1, f"a {POISON} dog", OK), (2, "a cat", OK))


@pytest.mark.parametrize(
    ("found", "poisoned", "counts"),
    [
        (EXPECTED, False, (0, 0, 0)),
        (EXPECTED.slice(0, 2), False, (1, 0, 0)),
        (pa.concat_tables([EXPECTED, EXPECTED.slice(2)]), False, (0, 1, 0)),
        (
            table((0, "a dog", FAILED), (1, f"a {POISON} dog", OK), (2, "a cat", OK)),
            False,
            (0, 0, 1),
        ),
        (None, False, (3, 0, 0)),
        (EXPECTED, True, (0, 0, 1)),
        (
            table((0, "a dog", OK), (1, f"a {POISON} dog", FAILED), (2, "a cat", OK)),
            True,
            (0, 0, 0),
        ),
    ],
)
def test_rows_that_are_lost_doubled_or_different_are_counted(found, poisoned, counts):
    outcome = Outcome("any", ended=True)
    compare(outcome, EXPECTED, found, poisoned)
    assert (outcome.lost, outcome.doubled, outcome.other) == counts
    assert outcome.survived == (counts == (0, 0, 0))


def test_the_table_has_a_row_for_each_fault_and_one_for_all():
    outcomes = [
        Outcome("b", times=2, starts=3, ended=True, silence=31.4),
        Outcome("a", times=1, starts=1, ended=True, lost=4, orphans=1),
    ]
    lines = report(outcomes).splitlines()
    assert lines[2] == "| a | 1 | 1 | 0 | 4 | 0 | 0 | 1 | 0 | 1 |"
    assert lines[3] == "| b | 1 | 2 | 1 | 0 | 0 | 0 | 3 | 31 | 0 |"
    assert lines[4] == "| all | 2 | 3 | 1 | 4 | 0 | 0 | 4 | 31 | 1 |"


def test_the_longest_silence_of_a_command_is_heard():
    script = "import time; print(1, flush=True); time.sleep(1.2); print(2, flush=True)"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        listener = Listener(process.stdout)
        process.wait()  # leaving the block closes the pipe
        assert listener.finish() >= 1
    assert listener.lines == ["1", "2"]


def test_a_file_system_that_lies_fails_and_cuts_for_a_while_and_a_folder_bears_it(
    tmp_path, monkeypatch
):
    fsspec.register_implementation(lying_files.PROTOCOL, lying_files.LyingFiles, clobber=True)
    monkeypatch.setattr(lying_files.LyingFiles, "until", time.time() + 3600)
    monkeypatch.setattr(lying_files, "LONGEST", 0.0)
    monkeypatch.setattr("common.storage._PAUSES", (0.0,) * 9)
    folder = Folder(f"lying://{tmp_path}/a")
    folder.make()
    assert not folder.is_local
    before = lying_files.LyingFiles.troubled
    for n in range(200):
        folder.write(f"{n}", b"some bytes" * 10)
        assert os.path.getsize(tmp_path / "a" / f"{n}") == 100
        assert folder.read(f"{n}") == b"some bytes" * 10
    assert lying_files.LyingFiles.troubled - before > 5
    monkeypatch.setattr(lying_files.LyingFiles, "until", 0.0)
    assert folder.read("7") == b"some bytes" * 10


def test_a_fault_that_there_is_not_is_told():
    with pytest.raises(UserError, match="no fault is called 'flood'"):
        Settings(only="flood")


@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_ten_faults_cost_no_row_and_leave_no_process(capsys):
    """Minutes: a cluster of three nodes is started, and the run's command at least once a fault."""
    if os.geteuid():
        pytest.skip("needs root, for a small file system that fills up")
    settings = Settings(runs=10, seed=1, captions=200, hold=8.0)
    said = work(settings)
    total = [cell.strip() for cell in said.splitlines()[-1].split("|")[1:-1]]
    log = capsys.readouterr().err
    assert total[0:2] == ["all", "10"], said
    assert int(total[2]) >= 10, said + log
    assert total[3] == "10", said + log
    assert total[4:7] == ["0", "0", "0"], said + log
    assert float(total[8]) <= 60, said + log
    assert total[9] == "0", said + log
    assert len(FAULTS) > 10
