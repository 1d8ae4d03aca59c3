"""One node of Ray in a process of its own, for `workflows/local_cluster.py`; it ends with that process.

    python workflows/local_node.py '{"head": true, "gcs_server_port": 6400, "num_cpus": 0, ...}'

It is what `ray start --block` does without the server for Ray clients, which takes a port that only one
Ray of a machine can have, and which takes the whole node with it where it starts too slowly.
"""

from __future__ import annotations

import json
import signal
import sys

STARTED = "the node is up"


def main(arguments: str) -> None:
    """Starts the node and stays."""
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    given = json.loads(arguments)
    head = given.pop("head")
    given |= {"num_gpus": 0, "min_worker_port": 0, "max_worker_port": 0}
    if not head:
        given |= {"include_log_monitor": False, "node_manager_port": 0}
        given |= {"dashboard_agent_listen_port": None}
    # Linux ends a child that was started so with its parent, however that ends.
    Node(RayParams(**given), head=head, shutdown_at_exit=True, spawn_reaper=True)
    print(STARTED, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
