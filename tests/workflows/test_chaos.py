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
from workflows.chaos import Campaign, Settings, work
from workflows.chaos_faults import FAULTS, POISON
from workflows.chaos_report import Outcome, Results, compare, report
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
        Outcome("b", moments=[0.0, 0.5], starts=3, ended=True, silence=31.4),
        Outcome("a", moments=[0.9], starts=1, ended=True, lost=4, left=["7 ray"]),
        Outcome("c", lasting=True, starts=1, ended=True),
    ]
    lines = report(outcomes).splitlines()
    assert lines[2] == "| a | 1 | 1 | 1 | 0 | 4 | 0 | 0 | 1 | 0 | 1 |"
    assert lines[3] == "| b | 1 | 2 | 1 | 1 | 0 | 0 | 0 | 3 | 31 | 0 |"
    assert lines[4] == "| c | 1 | lasting | lasting | 1 | 0 | 0 | 0 | 1 | 0 | 0 |"
    assert lines[5] == "| all | 3 | 3 | 2 | 2 | 4 | 0 | 0 | 5 | 31 | 1 |"


def test_a_campaign_that_was_stopped_keeps_what_came_of_its_runs(tmp_path):
    path, settings = str(tmp_path / "a.jsonl"), {"seed": 3, "only": None}
    first = Results(path, settings)
    first.add(Outcome("a", number=4, moments=[0.25], ended=True, said=["fine"]))
    first.add(Outcome("b", number=2, lasting=True, lost=1, said=["not fine"]))
    again = Results(path, settings)
    assert sorted(again.outcomes) == [2, 4]
    assert report([*again.outcomes.values()]) == report([*first.outcomes.values()])
    assert again.outcomes[2].said == ["not fine"]
    with pytest.raises(UserError, match=r'other settings: \{"seed": 3'):
        Results(path, settings | {"seed": 4})
    (tmp_path / "a.jsonl").write_text("[]\n{}\n")
    with pytest.raises(UserError, match="holds no results of a campaign"):
        Results(path, settings)


def test_runs_that_are_done_are_left_out_and_the_others_stay_as_they_were(monkeypatch, tmp_path):
    def numbers(done: set[int]) -> list[tuple[int, str]]:
        campaign = Campaign(Settings(runs=30, seed=2), None, tmp_path, tmp_path)
        monkeypatch.setattr(campaign, "_one", lambda number, fault, random: (number, fault.name))
        return [*campaign.run(done)]

    every = numbers(set())
    assert [number for number, _ in every] == [*range(30)]
    assert numbers({0, 7, 29}) == [each for each in every if each[0] not in (0, 7, 29)]


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
    assert int(total[2]) >= 7, said + log  # the others last
    assert total[4] == "10", said + log
    assert total[5:8] == ["0", "0", "0"], said + log
    assert float(total[9]) <= 60, said + log
    assert total[10] == "0", said + log
    assert len(FAULTS) > 10
