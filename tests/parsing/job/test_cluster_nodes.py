"""What is decided by the nodes that are there, and what a job's metadata may hold."""

from __future__ import annotations

import json

import pytest

from common.errors import UserError
from parsing.fake_parser import FakeConfig
from parsing.job import cluster
from parsing.job.driver import opening_line
from parsing.job.secrets import NAMES
from parsing.job.settings import RunSettings
from parsing.parser import Resources
from parsing.source.readers import Source


@pytest.fixture
def nodes(monkeypatch):
    """The cluster's living nodes, by their resources."""
    found: list[dict[str, float]] = []
    monkeypatch.setattr(cluster, "_nodes", lambda: found)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return found


@pytest.mark.parametrize("joined", [[], [{"CPU": 0}], [{"CPU": 96}, {"CPU": 4}]])
def test_a_remote_cluster_without_gpus_now_decides_nothing_about_the_model(nodes, joined):
    nodes += joined
    with pytest.raises(UserError, match=r"head:6379 has no GPUs now.*say --device gpu"):
        cluster.has_gpus("head:6379")
    nodes.append({"CPU": 96, "GPU": 8})
    assert cluster.has_gpus("head:6379")


def test_a_job_takes_its_cluster_from_the_environment_and_is_remote_too(nodes, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(UserError, match=r"at 10\.0\.0\.1:6379 has no GPUs now"):
        cluster.has_gpus(None)


def test_a_ray_of_ones_own_has_what_it_has(nodes):
    nodes.append({"CPU": 2})
    assert not cluster.has_gpus(None)
    assert not cluster.has_gpus("local")
    nodes[0]["GPU"] = 1
    assert cluster.has_gpus(None)


def test_all_cores_of_a_node_that_is_not_there_yet_cannot_be_taken(nodes):
    nodes.append({"CPU": 0})
    with pytest.raises(UserError, match="give --cpus-per-actor N"):
        cluster.resolve(Resources(cpus=None))
    assert cluster.resolve(Resources(cpus=3)).cpus == 3
    nodes += [{"CPU": 16}, {"CPU": 8}]
    assert cluster.resolve(Resources(cpus=None)).cpus == 8


@pytest.mark.parametrize("address", ["local", "head:6379"])
def test_no_secret_stands_in_the_environment_that_ray_shows(monkeypatch, address):
    for name in NAMES:
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("HF_HOME", "/models")
    env = cluster._runtime_env(address, ("common",))
    assert env["env_vars"]["HF_HOME"] == "/models"
    assert "hush" not in json.dumps(env)


class Modelled(FakeConfig):
    def about(self):
        return {"model": "some/model"}


@pytest.mark.parametrize(
    ("config", "settings", "line"),
    [
        (
            Modelled(cpus=1, gpus=2),
            {"address": "head:6379"},
            "model some/model (0123456789ab) on GPUs, 2 an engine; 4 engines on the Ray cluster at "
            "head:6379: 2 nodes with 96 CPUs and 8 GPUs in all",
        ),
        (
            FakeConfig(cpus=4),
            {"actors": 1},
            "parser fake on CPUs, 4 an engine; 1 engine on this machine: 2 nodes with 96 CPUs and "
            "8 GPUs in all",
        ),
        (
            FakeConfig(cpus=1, gpus=16),
            {"address": "head:6379"},
            "parser fake on GPUs, 16 an engine; no room for an engine yet on the Ray cluster at "
            "head:6379: 2 nodes with 96 CPUs and 8 GPUs in all",
        ),
    ],
)
def test_the_first_line_says_model_device_engines_and_place(nodes, config, settings, line):
    nodes += [{"CPU": 0}, {"CPU": 96, "GPU": 8}]
    fingerprint = {"revision": "0123456789abcdef"}
    told = opening_line(config, fingerprint, RunSettings(Source(("x.tsv",)), **settings))
    assert told == line
