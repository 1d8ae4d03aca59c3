"""A Ray cluster of several nodes on one machine, each a process tree that can be killed alone.

For tests of the run's command and for `workflows/chaos.py`. Nothing here touches another Ray of the
machine: what is stopped are the processes that were started here.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from workflows.local_node import STARTED

NODE = Path(__file__).with_name("local_node.py")
STORE = 100 << 20  # bytes of each node's object store, the least that Ray takes without complaint
START_SECONDS = 300.0
STARTS = 5  # attempts for one node


class Node:
    """One node: `workflows/local_node.py` and all that it starts."""

    def __init__(self, command: list[str], environment: dict[str, str], cwd: str):
        self.token = secrets.token_hex(8)  # in the environment of all its processes
        self._log = Path(cwd) / "start.log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command,
                env=environment | {"TAGALIGN_NODE": self.token},
                cwd=cwd,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def has_started(self) -> bool:
        """Waits until it is up, or has given up: Ray allows half a minute, which a busy machine may miss."""
        while self._process.poll() is None:
            if STARTED in self._log.read_text(errors="replace"):
                return True
            time.sleep(0.2)
        return False

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Its living processes whose command line holds a name."""
        return with_variable("TAGALIGN_NODE", self.token, name)

    def stop(self) -> None:
        """Kills all of it, also what its own processes have left behind."""
        kill([psutil.Process(self._process.pid)] if self._process.poll() is None else [])
        for _ in range(10):
            if not (left := self.processes()):
                break
            kill(left)
        self._process.wait()


class LocalCluster:
    """A head and nodes that join and leave.

    Args:
        head_cpus: cores of the head, as Ray counts them.
        environment: more environment variables, for all nodes.
        autoscaling: an autoscaler's configuration, or None.
        dashboard: whether jobs can be submitted.
    """

    def __init__(
        self,
        head_cpus: int = 0,
        environment: dict[str, str] | None = None,
        autoscaling: dict[str, Any] | None = None,
        dashboard: bool = False,
    ):
        self.folder = tempfile.mkdtemp(prefix="tc-", dir="/tmp")  # short: sockets lie in it
        self._environment = clean_environment() | (environment or {})
        ports = free_ports(3)
        self.address = f"127.0.0.1:{ports[0]}"
        self.dashboard = f"http://127.0.0.1:{ports[1]}"
        settings: dict[str, Any] = {"head": True, "gcs_server_port": ports[0]}
        settings |= {"num_cpus": head_cpus, "include_dashboard": dashboard}
        settings |= {"dashboard_port": ports[1], "dashboard_agent_listen_port": ports[2]}
        if autoscaling is not None:
            path = Path(self.folder) / "autoscaling.json"
            # The pretended cloud of Ray's own tests must be told where the head is.
            provider = autoscaling["provider"] | {"gcs_address": self.address}
            path.write_text(json.dumps(autoscaling | {"provider": provider}))
            settings["autoscaling_config"] = str(path)
        self._head_settings, self._listens = settings, ports[: 1 + dashboard]
        self._started = 0
        self.nodes: list[Node] = []
        self._start_head()

    def add(self, cpus: int = 1) -> Node:
        """Starts a node."""
        place = {"redis_address": self.address, "gcs_address": self.address}
        self.nodes.append(self._start({"head": False, "num_cpus": cpus} | place))
        return self.nodes[-1]

    def remove(self, node: Node) -> None:
        """Takes a node away as a cloud does: without a word."""
        self.nodes.remove(node)
        node.stop()

    def processes(self, name: str = "") -> list[psutil.Process]:
        return [each for node in [self.head, *self.nodes] for each in node.processes(name)]

    def stop(self) -> None:
        for node in [*self.nodes, self.head]:
            node.stop()
        self.nodes = []

    def restart(self) -> None:
        """Stops all of it, and starts as many nodes again, at the same address."""
        count = len(self.nodes)
        self.stop()
        self._start_head()
        for _ in range(count):
            self.add()

    def _start_head(self) -> None:
        self.head = self._start(self._head_settings)
        for port in self._listens:
            wait_for(lambda port=port: listens(port), f"the head listens at port {port}")

    def _start(self, settings: dict[str, Any]) -> Node:
        """Every node has a temporary folder and a working directory of its own."""
        for _ in range(STARTS):
            self._started += 1
            cwd = Path(self.folder) / str(self._started)
            cwd.mkdir()
            own = settings | {"temp_dir": str(cwd), "object_store_memory": STORE}
            command = [sys.executable, str(NODE), json.dumps(own)]
            node = Node(command, self._environment, str(cwd))
            if node.has_started():
                return node
            node.stop()
        raise TimeoutError(f"a node has not started in {STARTS} attempts")


@contextlib.contextmanager
def local_cluster(**options: Any) -> Iterator[LocalCluster]:
    """A `LocalCluster` for as long as the block lasts."""
    cluster = LocalCluster(**options)
    try:
        yield cluster
    finally:
        cluster.stop()
        subprocess.run(["rm", "-rf", cluster.folder], check=False)


def clean_environment() -> dict[str, str]:
    """This process's environment without what points to another Ray, or turns tokens on."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{mine.get('PATH', '')}"
    return mine | {
        "PATH": path,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        # A machine that is busy with other work may take longer than the minute that Ray allows.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "120",
    }


def with_variable(variable: str, value: str, name: str = "") -> list[psutil.Process]:
    """Living processes that were started with an environment variable, by their command lines."""
    found, wanted = [], f"{variable}={value}".encode()
    for process in psutil.process_iter():
        try:
            held = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if wanted not in held or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if name in " ".join([process.name(), *process.cmdline()]):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL for each, and for what they have started."""
    trees = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            trees += [process, *process.children(recursive=True)]
    for process in trees:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(trees, timeout=5)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Raises `TimeoutError` where the condition stays false."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
