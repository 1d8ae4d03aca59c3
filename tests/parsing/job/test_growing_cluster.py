"""The run's command on clusters of several nodes: they grow, they lose nodes, they share no folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from workflows.local_cluster import clean_environment, local_cluster, wait_for

# Under a minute each where cores are free; a machine that is busy with other work may take ten times that.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

AUTOSCALER = {
    "cluster_name": "fake",
    "max_workers": 1,
    "idle_timeout_minutes": 10,
    "provider": {"type": "fake_multinode", "disable_node_updaters": True},
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "upscaling_speed": 1.0,
    **dict.fromkeys(
        ["cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands"]
        + [f"{who}setup_commands" for who in ("", "head_", "worker_")]
        + [f"{who}_start_ray_commands" for who in ("head", "worker")],
        (),
    ),
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
        "cpus": {
            "resources": {"CPU": 1, "object_store_memory": 100 << 20},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 1,
        },
    },
}
FAKE_CLOUD = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}


@pytest.fixture
def captions(tmp_path) -> Path:
    path = tmp_path / "captions.tsv"
    path.write_text("".join(f"https://a/{n}\ta green house number {n}\n" for n in range(60)))
    return path


def command(captions: Path, output: Path, *flags: object) -> list[str]:
    told = ["--parser", "fake", "--captions", captions, "--output", output, "--shard-size", 10]
    return [sys.executable, "parsing/run.py", *map(str, [*told, *flags])]


def parse(root: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments),
        cwd=root,
        env=clean_environment() | {"HF_TOKEN": "hf_hush"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def rows(folder: Path) -> list[int]:
    return [
        n for p in sorted(folder.glob("part-*.parquet")) for n in pq.read_table(p)[0].to_pylist()
    ]


def test_a_cluster_of_zero_workers_is_asked_for_one(captions, root, tmp_path):
    """Ray's own autoscaler on a pretended cloud: it starts nodes for actors that wait, and only so."""
    with local_cluster(autoscaling=AUTOSCALER, environment=FAKE_CLOUD) as cluster:
        flags = ("--address", cluster.address, "--wait-for-room", 5)
        done = parse(root, captions, tmp_path / "tags", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(tmp_path / "tags") == list(range(60))
    first = done.stdout.splitlines()[0]
    assert first == (
        f"parser fake on CPUs, 1 an engine; no room for an engine yet on the Ray cluster at "
        f"{cluster.address}: 1 node with 0 CPUs and 0 GPUs in all"
    )


def test_a_cluster_without_gpus_now_is_not_taken_for_one_that_never_has_any(
    captions, root, tmp_path
):
    with local_cluster(head_cpus=1) as cluster:
        arguments = command(captions, tmp_path / "tags", "--address", cluster.address)
        arguments[arguments.index("fake")] = "llm"
        done = subprocess.run(
            arguments,
            cwd=root,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 2, done.stdout + done.stderr
        assert "has no GPUs now, and nodes may join it later" in done.stderr
        assert "say --device gpu" in done.stderr
        assert not (tmp_path / "tags").exists()


def test_a_node_that_goes_and_one_that_comes_cost_no_row_and_no_secret_is_shown(
    captions, root, tmp_path
):
    with local_cluster(dashboard=True) as cluster:
        node = cluster.add()
        output = tmp_path / "tags"
        flags = ("--address", cluster.address, "--wait-for-room", 5, "--fake-seconds", 0.3)
        with open(tmp_path / "log", "w") as log:
            driver = subprocess.Popen(
                command(captions, output, *flags),
                cwd=root,
                env=clean_environment() | {"HF_TOKEN": "hf_hush"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(lambda: len(list(output.glob("part-*.json"))) >= 1, "a shard is committed")
        cluster.remove(node)
        cluster.add()
        state = [str(Path(sys.executable).with_name("ray")), "list", "jobs", "--detail", "--format"]
        shown = subprocess.run(
            [*state, "json", "--address", cluster.dashboard],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "HF_HUB_OFFLINE" in shown.stdout, "the job's environment stands in its metadata"
        assert "hush" not in shown.stdout
        assert driver.wait(timeout=500) == 0, (tmp_path / "log").read_text()
        logs = [path for path in Path(cluster.folder).rglob("*") if path.is_file()]
        assert len(logs) > 10
        assert not [path for path in logs if b"hf_hush" in path.read_bytes()]
    assert rows(output) == list(range(60))
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["counts"]["statuses"]["failed"] == 0
    assert "a parser" in (tmp_path / "log").read_text()


def test_a_submitted_job_runs_its_own_code_on_nodes_that_do_not_see_its_folder(
    captions, root, tmp_path
):
    """The copy that is submitted differs from the installed code, and is gone once it is sent."""
    copy = tmp_path / "copy"
    for name in ("common", "parsing", "prompts"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    fake = copy / "parsing" / "fake_parser.py"
    assert "{4,}" in fake.read_text()
    fake.write_text(fake.read_text().replace("{4,}", "{6,}"))
    with local_cluster(dashboard=True) as cluster:
        cluster.add()
        flags = ("--wait-for-room", 5, "--fake-seconds", 0.05)
        entry = ["python", *command(captions, tmp_path / "tags", *flags)[1:]]
        submit = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--no-wait"]
        submit += ["--address", cluster.dashboard, "--working-dir", ".", "--submission-id", "one"]
        environment = clean_environment()
        done = subprocess.run(
            [*submit, "--", *entry],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        os.rename(copy, tmp_path / "gone")
        follow = [*submit[:2], "logs", "one", "--follow", "--address", cluster.dashboard]
        followed = subprocess.run(
            follow, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
    assert "60 captions of 60 images" in followed.stdout, followed.stdout + followed.stderr
    assert rows(tmp_path / "tags") == list(range(60))
    tags = pq.read_table(tmp_path / "tags" / "part-000000.parquet").to_pylist()
    assert tags[0]["objects"] == ["number"]
