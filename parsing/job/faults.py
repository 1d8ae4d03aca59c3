"""What an exception that reaches the driver means: whose fault it is, and who may go on."""

from __future__ import annotations

from enum import Enum, auto

from ray import exceptions

from common.errors import EngineDied, UserError


class Fault(Enum):
    """Who is at fault, and so what is to be done."""

    DIED = auto()  # the parser or its process: replace the actor, what it had in hand is suspect
    LOST = auto()  # the node, or the way to it: replace the actor, nothing that it had is to blame
    RAY = auto()  # Ray lost or could not keep an object: the actor goes on, the piece is sent again
    REFUSED = auto()  # a `UserError` of the parser: replace the actor, give up if that goes on
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

    Only what the actor's own code raised is judged; Ray wraps that in a `RayTaskError`. An actor's
    code may also meet a failure of Ray itself, such as an argument that was lost.
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
