"""The command prints what every check has found, and none keeps the others from running."""

from __future__ import annotations

import json

from tests.workflows.cc12m.findings import levels
from workflows.cc12m import preflight
from workflows.cc12m.checks.finding import FAILED, OK, Finding, run_check
from workflows.local_cluster import free_ports


def test_the_command_prints_a_line_a_finding_and_fails_if_one_fails(tmp_path, capsys, root):
    sample = str(root / "parsing" / "sample_captions.tsv")
    good = ["--no-gpu", "--model", "smollm2", "--captions", sample, "--address", ""]
    good += ["--output", str(tmp_path / "tags")]
    assert preflight.main(good) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert [line.split()[1] for line in lines][:3] == ["versions", "GPUs", "model"]
    assert preflight.main([*good, "--images", str(tmp_path / "nowhere"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["check"] for one in found if one["level"] == FAILED] == ["images"]


def test_a_missing_cluster_does_not_keep_the_other_checks_from_running(tmp_path, capsys, root):
    sample = str(root / "parsing" / "sample_captions.tsv")
    flags = ["--no-gpu", "--model", "smollm2", "--captions", sample]
    flags += ["--address", f"127.0.0.1:{free_ports(1)[0]}"]
    assert preflight.main(flags) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAILED   cluster     no Ray cluster answers at")
    assert lines[-1].startswith("ok       captions")


def test_a_check_that_breaks_becomes_a_finding():
    def broken():
        yield Finding(OK, "so far")
        raise KeyError("lost")

    found = run_check("x", broken)
    assert levels(found) == [OK, FAILED]
    assert "this check itself broke, report it: KeyError" in found[1].sentence


def test_flags_that_make_no_sense_are_told_in_one_sentence(capsys):
    for flags, sentence in (
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--tensor-parallel", "0"], "--tensor-parallel must be at least 1"),
        (["--benchmarks", "voc"], "--benchmarks and --data go together"),
    ):
        assert preflight.main(flags) == 2
        assert sentence in capsys.readouterr().err
