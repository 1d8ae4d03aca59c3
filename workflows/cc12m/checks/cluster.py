"""The Ray cluster at an address: whether it can be reached and used, and what its nodes have.

Another process connects to Ray, which may wait for minutes or end the process that connects.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError
from parsing.job import cluster
from workflows.cc12m.checks.finding import Finding, failed, ok, warning
from workflows.cc12m.checks.machine import Machine, names_of_interest, this_machine

MODULES = ("common", "parsing", "prompts", "workflows")
ROOT = Path(__file__).resolve().parents[3]


def ask_cluster(address: str, seconds: float) -> list[Machine]:
    """Every node of the cluster.

    Raises:
        UserError: no cluster answers, it refuses this process, or it takes too long.
    """
    command = [sys.executable, "-m", "workflows.cc12m.checks.cluster", address]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"the Ray cluster at {address} did not answer within {seconds:.0f} s: is it Ray that "
            "listens there, and of the same version?"
        ) from error
    answer = done.stdout.strip().splitlines()
    if done.returncode == 0 and answer:
        return [Machine.from_json(one) for one in json.loads(answer[-1])]
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if said:
        raise UserError(said[-1].removeprefix("error: "))
    raise UserError(
        f"asking the Ray cluster at {address} ended with status {done.returncode}: does it run the "
        "Ray of pyproject.toml, and let this machine in (RAY_AUTH_MODE, RAY_AUTH_TOKEN)?"
    )


def check_cluster(
    address: str, machines: list[Machine], tensor_parallel: int, gpus: bool
) -> Iterator[Finding]:
    """Nodes, GPUs and versions of a cluster that answered.

    Args:
        machines: as `ask_cluster` gives them.
        tensor_parallel: GPUs that one engine spans.
        gpus: whether engines are to run on GPUs.
    """
    token = bool(os.environ.get("RAY_AUTH_TOKEN")) or (Path.home() / ".ray" / "auth_token").exists()
    mode = os.environ.get("RAY_AUTH_MODE") or ("token" if token else "disabled")
    cards = sum(len(machine.cards) for machine in machines)
    count = len(machines)
    yield ok(
        f"{address} answers: {count} node{'s' * (count != 1)} with {cards} GPUs, authentication {mode}"
    )
    if mode != "token":
        yield warning(
            "anyone who reaches its ports can run code on it: start it with RAY_AUTH_MODE=token"
        )
    if gpus:
        engines = sum(len(machine.cards) // tensor_parallel for machine in machines)
        if not engines:
            yield failed(
                f"no node has the {tensor_parallel} GPUs that one engine spans: add nodes with GPUs, "
                "or give a smaller --tensor-parallel"
            )
        else:
            yield ok(f"room for {engines} engines of {tensor_parallel} GPUs")
    pythons = {machine.python.rpartition(".")[0] for machine in machines}
    rays = {machine.versions.get("ray", "none") for machine in machines}
    for what, values in (("Python", pythons), ("Ray", rays)):
        if len(values) > 1:
            yield failed(
                f"nodes run {what} {' and '.join(sorted(values))}: install the same on all"
            )


def _ask(address: str) -> list[dict]:
    with cluster.connected(address, MODULES):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        names = names_of_interest()

        def describe() -> dict:
            return this_machine(names).to_json()

        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        task = ray.remote(num_cpus=0, max_retries=0)(describe)
        return ray.get([task.options(scheduling_strategy=one).remote() for one in there])


def main() -> int:
    try:
        print(json.dumps(_ask(sys.argv[1])))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
