"""What a run is asked to do, apart from its parser."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.errors import UserError
from common.flags import setting
from common.storage import inside_ray_copy
from parsing.source.captions import Selection
from parsing.source.readers import Source


@dataclass(frozen=True)
class RunSettings:
    """What is parsed, where to, and on what.

    Raises:
        UserError: a number is out of its range, or the output would be deleted by Ray.
    """

    source: Source
    selection: Selection = field(default_factory=Selection)
    output: str = setting("data/tags", "folder or URL", metavar="DIR")
    retry_failed: bool = setting(False, "parse the rows with status `failed` again")
    address: str | None = setting(
        None,
        "of a Ray cluster (host:port, auto, ray://host:port); default $RAY_ADDRESS, which a Ray job "
        "has, else a Ray of this process's own",
    )
    actors: int | None = setting(
        None, "concurrent parsers; default as many as there is room for", metavar="N"
    )
    wait_for_room: float = setting(
        0.0,
        "minutes to wait for room in a cluster that is full or grows on demand",
        metavar="MINUTES",
    )
    start_limit: float = setting(
        60.0,
        "minutes that a parser may take to start, once it has its resources",
        metavar="MINUTES",
    )
    answer_limit: float = setting(
        15.0,
        "minutes in which a parser with work must answer at least one caption; else it is replaced",
        metavar="MINUTES",
    )

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise UserError(f"--actors must be at least 1, not {self.actors}")
        if self.wait_for_room < 0:
            raise UserError(f"--wait-for-room must not be negative, not {self.wait_for_room:g}")
        for name in ("start_limit", "answer_limit"):
            if not getattr(self, name) > 0:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} must be more than 0, not {getattr(self, name):g}")
        if inside_ray_copy(self.output):
            raise UserError(
                f"--output {self.output} lies in the copy of the working directory that Ray makes "
                "for a job and deletes: give an absolute path or a URL"
            )
