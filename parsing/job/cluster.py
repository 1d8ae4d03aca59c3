"""The Ray cluster: joining it or starting one, and how many parsers it has room for."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import UserError
from common.quiet import output_in_file
from parsing.parser import Resources

LOCAL = "local"
CONNECT_SECONDS = 5
_SOCKET_BYTES = 107  # the longest path of a Unix socket, in which Ray's session has a long name
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
# What a user sets once and every node needs to know. All of it stands in the job's metadata and on
# the dashboard: `parsing.job.secrets` passes on what must not.
_PASSED_ON = ("TAGALIGN_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "NLTK_DATA")


@contextlib.contextmanager
def connected(
    address: str | None, modules: Sequence[str] = ("common", "parsing", "prompts")
) -> Iterator[None]:
    """A Ray cluster for as long as the block lasts.

    Args:
        address: `host:port`, `auto`, `ray://...`, or `local` for a Ray of this process's own;
            None takes `$RAY_ADDRESS`, which a Ray job has, else `local`.
        modules: the repository's folders that tasks and actors import.

    Raises:
        UserError: nobody answers there, the cluster refuses this process, or Ray cannot write to the
            folders that it needs here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = where(address)
    _check_reachable(address)
    if address == LOCAL:
        _check_temporary_folder()
    import ray

    options, log = {"include_dashboard": False} if address == LOCAL else {}, None
    try:
        with output_in_file("ray") as log:
            ray.init(
                address=address,
                runtime_env=_runtime_env(address, modules),
                log_to_driver=False,
                logging_level="error",
                **options,
            )
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, its own, and others
        raise UserError(_why_not(address, error)) from error
    finally:
        if log is not None:
            os.unlink(log)
    try:
        yield
    finally:
        ray.shutdown()


def where(address: str | None) -> str:
    """The address that `connected` takes for this one: it fills in the default."""
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


def _check_reachable(address: str) -> None:
    """Ray itself tries for ten minutes to reach a host that nobody listens on."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"no Ray cluster answers at {address}: {reason}") from error


def _check_temporary_folder() -> None:
    """Ray's own message about a long path doesn't say what to do about it."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    socket_path = os.path.join(folder, _SOCKET.format(pid=os.getpid()))
    if len(os.fsencode(socket_path)) > _SOCKET_BYTES:
        raise UserError(
            f"Ray's sockets have no room in {folder}, whose path is too long for them: set RAY_TMPDIR to "
            "a folder with a short path, such as /tmp"
        )


def _runtime_env(address: str, modules: Sequence[str]) -> dict:
    root = Path(__file__).resolve().parents[2]
    env: dict = {"env_vars": {k: os.environ[k] for k in _PASSED_ON if k in os.environ}}
    if address == LOCAL:
        env["env_vars"]["PYTHONPATH"] = os.pathsep.join(
            [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
    else:  # the nodes need the code
        env["py_modules"] = [str(root / module) for module in modules]
    return env


def _why_not(address: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if address == LOCAL and isinstance(error, OSError):
        place, why = error.filename or "its temporary files", error.strerror or text
        way = "TMPDIR to a folder that can be written to"
        if error.filename:
            home = ".ray" in Path(str(error.filename)).parts
            way = f"{'HOME' if home else 'RAY_TMPDIR'} to a folder that can be written to"
        return f"Ray cannot write {place} ({why}): set {way}"
    if "oken" in text or "Failed to connect" in text:  # somebody listens there, but says no
        return (
            f"the Ray cluster at {address} does not let this process in: if it asks for a token, "
            "which is Ray's default, set RAY_AUTH_MODE=token here and copy ~/.ray/auth_token from "
            "its head node (or set RAY_AUTH_TOKEN)"
        )
    return f"no Ray cluster answers at {address}: {text[:200] or type(error).__name__}"


def resolve(resources: Resources) -> Resources:
    """Fills in what depends on the cluster: `cpus=None` means all cores of the smallest node.

    Raises:
        UserError: no node has cores yet, so that nothing says how many a node will have.
    """
    if resources.cpus is not None:
        return resources
    cores = [node.get("CPU", 0) for node in _nodes() if node.get("CPU", 0) >= 1]
    if not cores:
        raise UserError(
            "no node of the cluster has cores yet, so how many one engine takes must be said: give "
            "--cpus-per-actor N"
        )
    return replace(resources, cpus=min(cores))


def room(resources: Resources) -> int:
    """Number of such parsers that fit the living nodes by total capacity, ignoring current use."""
    return sum(_fits(node, resources) for node in _nodes())


def _fits(node: dict[str, float], resources: Resources) -> int:
    needs = {"CPU": resources.cpus, "GPU": resources.gpus}
    return int(min(node.get(kind, 0) // need for kind, need in needs.items() if need))


def describe() -> str:
    """The cluster in words: `2 nodes with 32 CPUs and 8 GPUs in all`."""
    nodes = _nodes()
    cpus, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
    return f"{len(nodes)} node{'s' * (len(nodes) != 1)} with {cpus} CPUs and {gpus} GPUs in all"


def has_gpus(address: str | None) -> bool:
    """Whether a parser whose device was left open takes GPUs.

    Args:
        address: as given to `connected`.

    Raises:
        UserError: a cluster that other processes started has none now. More nodes may join it, so a
            choice made now could fill a GPU node with engines for the CPU.
    """
    if any(node.get("GPU", 0) >= 1 for node in _nodes()):
        return True
    address = where(address)
    if address == LOCAL:
        return False
    raise UserError(
        f"the Ray cluster at {address} has no GPUs now, and nodes may join it later (it has "
        f"{describe()}): say --device gpu, with --wait-for-room MINUTES until they are there, or "
        "--device cpu"
    )


def living_nodes() -> set[str]:
    """Ids of the nodes that are alive, as `ray.get_runtime_context().get_node_id()` gives them."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
