"""What an exception that reaches the driver means: who is at fault, and what the pool does next."""

from __future__ import annotations

from enum import Enum, auto

from ray import exceptions

from common.errors import EngineDied, UserError


class Fault(Enum):
    """Who is at fault, and what follows from it."""

    DIED = auto()  # the parser or its process: replace the actor, suspect the pieces that it had
    LOST = auto()  # the node, or the way to it: replace the actor, suspect no piece
    RAY = auto()  # Ray lost or could not keep an object: keep the actor, send the piece again
    REFUSED = auto()  # a `UserError` of the parser: replace the actor, give up after some
    OURS = auto()  # any other exception of the parser: a defect of this project, or of a caption


_DIED = (
    EngineDied,
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.OutOfMemoryError,
    exceptions.RuntimeEnvSetupError,
    exceptions.ActorUnschedulableError,
)
_LOST = (
    exceptions.ActorUnavailableError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
)


def judge(error: BaseException) -> Fault:
    """The fault that an exception of `ray.get` or of an actor's call stands for.

    Ray wraps what an actor's code raised in a `RayTaskError`; the exception inside is judged. That may
    again be a failure of Ray, such as an argument that was lost.
    """
    cause = cause_of(error)
    if isinstance(cause, _LOST) or getattr(cause, "preempted", False):
        return Fault.LOST
    if isinstance(cause, _DIED):
        return Fault.DIED
    if isinstance(cause, UserError):
        return Fault.REFUSED
    own = isinstance(cause, exceptions.RayError) and not isinstance(cause, exceptions.RayTaskError)
    return Fault.RAY if own else Fault.OURS


def cause_of(error: BaseException) -> BaseException:
    """What the actor's code raised, without Ray's wrapping; else the error itself."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def sentence(error: BaseException) -> str:
    """The first line of what was raised, without Ray's traceback around it."""
    lines = str(cause_of(error)).strip().splitlines()
    return lines[0] if lines else type(cause_of(error)).__name__
