"""The cluster's files: `cluster.yaml` by Ray's own schema, `parse.sbatch` on a Slurm imitated by scripts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from functools import partial
from pathlib import Path

import pytest
import yaml

from eval import refer, segment
from labels import build_vocab
from parsing import distill
from parsing.run import parse_flags as run_flags
from training import check_tags, train
from workflows.cc12m import estimate, preflight
from workflows.command import read_settings
from workflows.local_cluster import free_ports


@pytest.fixture
def launcher(root) -> dict:
    return yaml.safe_load((root / "workflows" / "cc12m" / "cluster.yaml").read_text())


def test_the_cluster_is_valid_by_ray_s_own_schema(launcher):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(launcher))
    wrong = launcher | {"head_node_typ": "head"}
    with pytest.raises(Exception, match="head_node_typ"):
        validate_config(prepare_config(wrong))


def test_the_nodes_run_the_ray_that_the_project_needs(launcher, root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needed = next(
        re.findall(r"==([\d.]+)", one)[0] for one in project["dependencies"] if "ray[" in one
    )
    for name in ("image", "head_image"):
        assert launcher["docker"][name].startswith(f"rayproject/ray:{needed}-py312")


def test_no_node_starts_ray_without_a_token(launcher):
    starts = launcher["head_start_ray_commands"] + launcher["worker_start_ray_commands"]
    starts = [command for command in starts if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ray start") for command in starts)
    assert "/home/ray/.ray/auth_token" in launcher["file_mounts"]


PARSERS = {
    "parsing/run.py": run_flags,
    "labels/build_vocab.py": build_vocab.parse_flags,
    "training/check_tags.py": check_tags.parse,
    "training/train.py": train.parse,
    "eval/segment.py": segment.parse,
    "eval/refer.py": refer.parse,
    "parsing/distill.py": distill.parse_flags,
    "workflows/cc12m/preflight.py": partial(read_settings, "", preflight.Settings),
}


# What stands for the variables of parse.sbatch.
SLURM = {'"$@" &': "", "$address": "h:1", "$device": "gpu"}


def commands(root: Path) -> list[tuple[str, list[str]]]:
    """Script and arguments of every command of the recipe that runs one of `PARSERS`."""
    found = []
    for path in sorted((root / "workflows" / "cc12m").glob("*.*")):
        if path.suffix not in (".md", ".yaml", ".sbatch"):
            continue
        text = re.sub(r"\\\n#?\s*", " ", path.read_text())
        for script, rest in re.findall(r"(?:python|8|--) (\S+\.py) ([^\n#`]*)", text):
            if script in PARSERS and rest.startswith("--"):
                for variable, value in SLURM.items():
                    rest = rest.replace(variable, value)
                found.append((script, [word.strip('"') for word in rest.split()]))
    return found


def test_every_command_of_the_recipe_has_flags_that_exist(root):
    found = commands(root)
    assert {script for script, _ in found} == set(PARSERS)
    assert sum(script == "parsing/run.py" for script, _ in found) == 4
    for script, words in found:
        PARSERS[script](words)


def test_every_file_that_the_page_names_is_there(root):
    folder = root / "workflows" / "cc12m"
    text = (folder / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) >= 6
    scripts = re.findall(r"(?:python|8|--) ([a-z0-9_/]+\.py)", text)
    missing = [link for link in links if not (folder / link).exists()]
    assert missing + [script for script in scripts if not (root / script).exists()] == []


def test_the_page_s_estimates_are_those_that_the_command_prints(root, capsys):
    text = (root / "workflows" / "cc12m" / "README.md").read_text()
    for flags in ([], ["--gpu", "h100", "--price", "3"]):
        assert estimate.main(flags) == 0
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        assert len(rows) == 7
        for row in rows:
            assert row in text, row


# -- Slurm ---------------------------------------------------------------------------------------

SRUN = r"""#!/bin/bash
# Runs a step here: flags of srun first, then the command, as the one node of the job.
echo "$@" >> "$SRUN_LOG"
while [[ "$1" == --nodes=* || "$1" == --ntasks=* || "$1" == --nodelist=* || "$1" == --exclude=* \
    || "$1" == --overlap ]]; do shift; done
exec "$@"
"""


@pytest.fixture
def slurm(tmp_path, root):
    """Starts the batch script as Slurm would on a job's first node; the steps run here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "srun": SRUN,
        "scontrol": "#!/bin/sh\necho node1\n",
        "hostname": "#!/bin/sh\necho 127.0.0.1\n",
    }
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    link = Path(f"/tmp/s{os.getpid()}")  # Ray's sockets need short paths
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "PATH": os.pathsep.join(
            [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "SLURM_SUBMIT_DIR": str(root),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SRUN_LOG": str(tmp_path / "srun.log"),
        "RAY_TMPDIR": str(link),
        "TAGALIGN_RAY_PORT": str(free_ports(1)[0]),
    }

    def start(*flags: object, **changes: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", "workflows/cc12m/parse.sbatch", *map(str, flags)],
            cwd=root,
            env=environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    yield start
    link.unlink(missing_ok=True)


def write(path: Path, rows: int) -> Path:
    path.write_text("".join(f"https://a/{n}\ta green house number {n}\n" for n in range(rows)))
    return path


def ray_processes(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and ("gcs_server" in line or "raylet" in line):
            found.append(line[:200])
    return found


@pytest.mark.cluster
def test_a_preempted_slurm_job_ends_cleanly_and_the_next_one_goes_on(slurm, tmp_path):
    captions = write(tmp_path / "c.tsv", 400)
    flags = ("--parser", "fake", "--captions", captions, "--output", tmp_path / "tags")
    job = slurm(*flags, "--shard-size", 20, "--fake-seconds", "0.05")
    end = time.monotonic() + 120
    while not list((tmp_path / "tags").glob("part-*.json")):
        assert job.poll() is None, job.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.2)
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=100)
    assert job.returncode == 143, said
    assert "the same command goes on from here" in said
    committed = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "tags").glob("part-*.json")}
    assert 0 < len(committed) < 20
    wait_until_gone(tmp_path)
    nodes = {"SLURM_JOB_NUM_NODES": "2", "TAGALIGN_RAY_PORT": str(free_ports(1)[0])}
    job = slurm(*flags, "--shard-size", 20, "--fake-seconds", "0.02", **nodes)
    said, _ = job.communicate(timeout=200)
    assert job.returncode == 0, said
    assert "400 captions of 400 images" in said
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "tags").glob("part-*.json")}
    assert committed.items() <= times.items(), "a committed shard was parsed again"
    assert json.loads((tmp_path / "tags" / "manifest.json").read_text())["finished"]
    steps = (tmp_path / "srun.log").read_text()
    assert steps.count("--head --node-ip-address=127.0.0.1") == 2
    second = next(line for line in steps.splitlines() if "--exclude=node1" in line)
    assert f"--address=127.0.0.1:{nodes['TAGALIGN_RAY_PORT']}" in second
    assert "RAY_AUTH_TOKEN" not in steps
    wait_until_gone(tmp_path)


@pytest.mark.cluster
def test_a_failed_parse_fails_the_slurm_job(slurm, tmp_path):
    job = slurm(
        "--parser", "fake", "--captions", tmp_path / "no.tsv", "--output", tmp_path / "tags"
    )
    said, _ = job.communicate(timeout=200)
    assert job.returncode == 2, said
    assert "error: there are no captions at" in said
    wait_until_gone(tmp_path)


def test_a_ray_that_does_not_start_fails_the_slurm_job_at_once(slurm, tmp_path):
    job = slurm("--parser", "fake", SLURM_GPUS_ON_NODE="nonsense")
    said, _ = job.communicate(timeout=100)
    assert job.returncode == 1, said
    assert "error: Ray did not start on node1" in said


def wait_until_gone(folder: Path, seconds: float = 30) -> None:
    link = Path(f"/tmp/s{os.getpid()}")
    end = time.monotonic() + seconds
    while left := ray_processes(folder) + ray_processes(link):
        assert time.monotonic() < end, left
        time.sleep(0.3)
