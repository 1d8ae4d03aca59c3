"""What an exception means: whose fault it is."""

from __future__ import annotations

import pytest
from ray import exceptions

from common.errors import EngineDied, UserError
from parsing.job.faults import Fault, judge, sentence
from tests.parsing.job.troubled_parser import ray_error


def raised_in_an_actor(cause: Exception) -> exceptions.RayTaskError:
    """As `ray.get` raises it."""
    return exceptions.RayTaskError("parse", "a traceback", cause).as_instanceof_cause()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("ActorDiedError", Fault.DIED),
        ("WorkerCrashedError", Fault.DIED),
        ("OutOfMemoryError", Fault.DIED),
        ("NodeDiedError", Fault.LOST),
        ("ActorUnavailableError", Fault.LOST),
        ("LocalRayletDiedError", Fault.LOST),
        ("ObjectLostError", Fault.RAY),
        ("OutOfDiskError", Fault.RAY),
        ("ObjectStoreFullError", Fault.RAY),
        ("RaySystemError", Fault.RAY),
        ("GetTimeoutError", Fault.RAY),
    ],
)
def test_rays_own_failures_are_told_from_those_of_the_actors_code(name, fault):
    error = exceptions.RaySystemError("as") if name == "RaySystemError" else ray_error(name)
    assert judge(error) is fault
    assert judge(raised_in_an_actor(error)) is fault, "met by the actor's code"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (EngineDied("gone"), Fault.DIED),
        (UserError("no model here"), Fault.REFUSED),
        (ValueError("odd"), Fault.OURS),
        (MemoryError("much"), Fault.OURS),
        (OSError(28, "No space left on device"), Fault.OURS),
    ],
)
def test_what_the_actors_code_raises_is_judged_by_what_it_raised(error, fault):
    assert judge(raised_in_an_actor(error)) is fault
    assert sentence(raised_in_an_actor(error)) == str(error)


def test_an_actor_whose_node_was_preempted_is_lost_and_not_to_blame():
    assert judge(exceptions.RayActorError(preempted=True)) is Fault.LOST
    assert judge(exceptions.RayActorError()) is Fault.DIED
