"""A cluster that does not answer, or lacks something, is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from tests.workflows.cc12m.findings import levels, only
from workflows.cc12m.checks.cluster import ask_cluster, check_cluster
from workflows.cc12m.checks.finding import FAILED, OK, WARNING
from workflows.local_cluster import free_ports


def test_an_address_with_nobody_there_fails_in_seconds():
    address, began = f"127.0.0.1:{free_ports(1)[0]}", time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster answers at {address}"):
        ask_cluster(address, 60)
    assert time.monotonic() - began < 30


def test_something_else_that_listens_there_is_given_up_on():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="did not answer within 4 s"):
            ask_cluster(address, 4)


@pytest.mark.cluster
def test_a_real_cluster_is_asked_for_its_nodes(here, monkeypatch, tmp_path):
    port = free_ports(1)[0]
    link = Path(f"/tmp/p{os.getpid()}")  # Ray's sockets need short paths
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    for name, value in (("MODE", "token"), ("TOKEN", "0123456789abcdef" * 4)):
        monkeypatch.setenv(f"RAY_AUTH_{name}", value)
    program = Path(sys.executable).with_name("ray")
    flags = ["start", "--head", "--block", "--num-cpus=1", f"--port={port}"]
    ray = subprocess.Popen(
        [program, *flags, "--include-dashboard=false", "--node-ip-address=127.0.0.1"],
        env=os.environ | {"RAY_TMPDIR": str(link)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert ray.poll() is None
            assert time.monotonic() < end
            time.sleep(0.3)
        address = f"127.0.0.1:{port}"
        assert ask_cluster(address, 120) == [here]
    finally:
        ray.terminate()
        ray.wait(timeout=60)
        link.unlink()


def test_what_a_cluster_lacks_is_named(node, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    head = replace(node, host="head", cards=(), usable=0)
    found = list(check_cluster("h:6379", [head, node], 2, gpus=True))
    assert levels(found) == [OK, OK]
    assert "2 nodes with 8 GPUs, authentication token" in found[0].sentence
    assert "room for 4 engines" in found[1].sentence
    found = list(check_cluster("h:6379", [head], 2, gpus=True))
    assert "no node has the 2 GPUs" in only(found, FAILED)
    old = replace(node, python="3.12.1", versions=node.versions | {"ray": "2.59.0"})
    found = [
        one.sentence for one in check_cluster("h:6379", [node, old], 2, True) if one.level == FAILED
    ]
    assert len(found) == 2
    assert "Python" in found[0]
    assert "Ray 2.59.0 and 2.60.0" in found[1]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "anyone who reaches its ports" in only(check_cluster("h:6379", [node], 2, True), WARNING)
