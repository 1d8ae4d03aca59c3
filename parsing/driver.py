"""The run: what it is asked to do, and the cluster and the folder it does it with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from parsing import cluster
from parsing.captions import Selection
from parsing.errors import UserError
from parsing.parser import ParserConfig
from parsing.readers import Source
from parsing.run_folder import RunFolder
from parsing.storage import inside_ray_copy


@dataclass(frozen=True)
class RunSettings:
    """What a run is, apart from its parser.

    Attributes:
        source, selection: the captions.
        output: the run's folder, a local path or an fsspec URL.
        actors: parsers at a time; None takes as many as the cluster has room for.
        address: see `cluster.connected`.
        retry_failed: parse the rows again that failed.
        wait_for_room: minutes to wait for a place in the cluster.
    """

    source: Source
    selection: Selection = field(default_factory=Selection)
    output: str = "data/tags"
    actors: int | None = None
    address: str | None = None
    retry_failed: bool = False
    wait_for_room: float = 0.0

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise UserError(f"--actors must be at least 1, not {self.actors}")
        if self.wait_for_room < 0:
            raise UserError(f"--wait-for-room must not be negative, not {self.wait_for_room:g}")
        if inside_ray_copy(self.output):
            raise UserError(
                f"--output {self.output} lies in the copy of the working directory that Ray makes "
                "for a job and deletes: give an absolute path or a URL"
            )


def run(settings: RunSettings, choose_parser: Callable[[], ParserConfig]) -> RunFolder:
    """Parses captions until every one has a row; begins where an earlier run left off.

    Args:
        choose_parser: called once the cluster is there, because what it has decides the default.

    Returns:
        The run's folder, finished.

    Raises:
        UserError: something the user can mend; every committed shard stays.
    """
    began = time.time()
    settings.source.files()  # a missing input is told before a cluster is started
    with cluster.connected(settings.address):
        config = choose_parser()
        config.check()
        folder = RunFolder(settings.output)
        with folder.opened(config.fingerprint()):
            # Ray reads its environment when it is imported: only now is it as it should be.
            from parsing.shard_run import ShardRun

            ShardRun(settings, config, folder, began).finish()
    return folder
