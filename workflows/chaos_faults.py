"""The faults of `workflows/chaos.py`: how each strikes a run that is going on, and how it passes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil

from workflows.local_cluster import LocalCluster

POISON = "dreadful"  # in one caption of every campaign


@dataclass
class Scene:
    """What a fault may lay hands on.

    Attributes:
        driver: the run's command.
        cluster: what it runs on; None for a Ray of the driver's own.
        disk: a small file system that holds `output`, the run's folder.
        random: of this run.
        hold: seconds after which what can pass has passed.
    """

    driver: psutil.Popen
    cluster: LocalCluster | None
    disk: Path
    output: Path
    random: Random
    hold: float

    def processes(self, name: str) -> list[psutil.Process]:
        """Living processes of the run's Ray, by their command lines."""
        if self.cluster is not None:
            return self.cluster.processes(name)
        found = []
        with contextlib.suppress(psutil.Error):
            for process in self.driver.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if name in " ".join([process.name(), *process.cmdline()]):
                        found.append(process)
        return found

    def strike(self, name: str, number: int = signal.SIGKILL) -> psutil.Process | None:
        """Sends a signal to one of them, drawn by lot, as soon as there is one; None if none comes."""
        while not (found := self.processes(name)):
            if self.driver.poll() is not None:
                return None
            time.sleep(0.2)
        victim = self.random.choice(found)
        with contextlib.suppress(psutil.Error):
            victim.send_signal(number)
        return victim

    def wait(self, seconds: float) -> None:
        """Waits, but not for longer than the driver lives."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.driver.poll() is None:
            time.sleep(0.1)


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        strike: makes it happen, waits where it passes by itself, and undoes it; False where there
            was nothing to strike. None where the fault lasts.
        flags: of the run's command while the fault lasts; a word in braces is filled in.
        own_ray: whether the driver starts a Ray of its own, which must end with it.
        lying: whether the output lies on a file system that lies.
        weather: of the endpoint that the run asks, a share of all requests by name of a fault.
    """

    name: str
    strike: Callable[[Scene], bool] | None
    flags: tuple[str, ...] = ()
    own_ray: bool = False
    lying: bool = False
    weather: dict[str, float] = field(default_factory=dict)


def _kill_driver(scene: Scene) -> bool:
    with contextlib.suppress(psutil.Error):
        scene.driver.kill()
    return True


def _kill_worker(scene: Scene) -> bool:
    return scene.strike("ray::Worker") is not None


def _stop_worker(scene: Scene) -> bool:
    victim = scene.strike("ray::Worker", signal.SIGSTOP)
    scene.wait(scene.hold)
    if victim is not None:
        with contextlib.suppress(psutil.Error):
            victim.send_signal(signal.SIGCONT)
    return victim is not None


def _kill_raylet(scene: Scene) -> bool:
    """A worker node's; the head's goes with the GCS."""
    node = scene.random.choice(scene.cluster.nodes)
    raylets = node.processes("raylet/raylet")
    for raylet in raylets:
        with contextlib.suppress(psutil.Error):
            raylet.kill()
    scene.wait(2)
    scene.cluster.remove(node)
    scene.cluster.add()
    return bool(raylets)


def _kill_gcs(scene: Scene) -> bool:
    victim = scene.strike("gcs_server")
    with contextlib.suppress(psutil.TimeoutExpired):
        scene.driver.wait(timeout=200)
    scene.cluster.restart()
    return victim is not None


def _fill_disk(scene: Scene) -> bool:
    ballast = scene.disk / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    scene.wait(scene.hold)
    ballast.unlink()
    return True


def _make_read_only(scene: Scene) -> bool:
    """Over the output folder, because a mount with a file open for writing can't be made read-only."""
    output = str(scene.output)
    while not scene.output.is_dir():
        if scene.driver.poll() is not None:
            return False
        time.sleep(0.1)
    subprocess.run(["mount", "--bind", output, output], check=True)
    try:
        for _ in range(100):  # until the driver happens to have no file open for writing there
            command = ["mount", "-o", "remount,bind,ro", output]
            if not subprocess.run(command, capture_output=True, check=False).returncode:
                scene.wait(scene.hold)
                return True
            scene.wait(0.1)
        return False
    finally:
        subprocess.run(["umount", "-l", output], check=True)


def _node_leaves(scene: Scene) -> bool:
    scene.cluster.remove(scene.random.choice(scene.cluster.nodes))
    scene.wait(scene.hold / 2)
    scene.cluster.add()
    return True


def _node_joins(scene: Scene) -> bool:
    scene.cluster.add()
    return True


FAULTS = (
    Fault("SIGKILL of the driver", _kill_driver),
    Fault("SIGKILL of the driver with a Ray of its own", _kill_driver, own_ray=True),
    Fault("SIGKILL of a worker", _kill_worker),
    Fault("SIGSTOP of a worker", _stop_worker, flags=("--answer-limit", "{half_hold}")),
    Fault("SIGKILL of a raylet", _kill_raylet),
    Fault("SIGKILL of the GCS", _kill_gcs),
    Fault("disk full", _fill_disk),
    Fault("output folder read-only", _make_read_only),
    Fault("file system that delays, fails and cuts", None, lying=True),
    Fault("node that leaves", _node_leaves),
    Fault("node that joins", _node_joins),
    Fault("caption that kills its parser", None, flags=("--fake-poison", POISON)),
    Fault(
        "endpoint: 429, 500, half an answer, nothing",
        None,
        weather={"limit": 0.1, "crash": 0.1, "half": 0.1, "cut": 0.1, "hang": 0.01},
    ),
)


def environment_of(fault: Fault, seed: int, hold: float) -> dict[str, Any]:
    """Variables for the run's command: for how long its file system lies."""
    if not fault.lying:
        return {}
    return {"LYING_UNTIL": str(time.time() + 2 * hold), "LYING_SEED": str(seed)}


def running_as_root() -> bool:
    return os.geteuid() == 0
