"""A run: joins the cluster, opens the folder, parses what is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from common.errors import UserError, reason
from parsing.job import cluster
from parsing.job.run_folder import RunFolder
from parsing.job.settings import RunSettings
from parsing.job.silence import Silence
from parsing.job.worker import parse_table, screen
from parsing.parser import ParserConfig
from parsing.source import cleaning
from parsing.versions import digest_of

ChooseParser = Callable[[Callable[[], bool]], ParserConfig]


def run(settings: RunSettings, choose_parser: ChooseParser, silence: Silence) -> RunFolder:
    """Parses captions until every one has a row; begins where an earlier run left off.

    Args:
        choose_parser: called once the cluster is there, with what says whether it has GPUs.
        silence: told what is being done, for a run that hangs.

    Returns:
        The run's folder, finished.

    Raises:
        UserError: something the user can mend; every committed shard stays.
    """
    began = time.time()
    silence.doing("looking at the input")
    settings.source.check()  # a missing or unreadable input is told before a cluster is started
    place = cluster.where(settings.address)
    silence.doing(
        f"joining the Ray cluster {place} (Ray gives up after a minute without an answer)"
    )
    with cluster.connected(settings.address):
        silence.doing("fetching and checking what the parser needs")
        config = choose_parser(lambda: cluster.has_gpus(settings.address))
        config.check()
        config = config.pinned()
        shared = {"cleaning": cleaning.digest(), "screening": digest_of(screen, parse_table)}
        fingerprint = config.fingerprint() | shared
        print(opening_line(config, fingerprint, settings), flush=True)
        silence.broken()
        folder = RunFolder(settings.output)
        with folder.opened(fingerprint):
            # Ray reads its environment when it is imported: only now is it as it should be.
            from parsing.job.shard_run import ShardRun

            elastic = cluster.where(settings.address) != cluster.LOCAL
            try:
                ShardRun(settings, config, folder, began, elastic, silence).finish()
            except OSError as error:  # of a file system that has failed several times in a row
                raise UserError(
                    f"cannot read or write a file: {reason(error)}; the same command goes on from here"
                ) from error
    return folder


def opening_line(config: ParserConfig, fingerprint: dict[str, Any], settings: RunSettings) -> str:
    """What is about to cost time and money: model, device, engines, and where they run."""
    what = f"parser {config.name}"
    if model := config.about().get("model"):
        revision = str(fingerprint.get("revision") or "")[:12]
        what = f"model {model}" + (f" ({revision})" if revision else "")
    resources = cluster.resolve(config.resources())
    device = f"GPUs, {resources.gpus}" if resources.gpus else f"CPUs, {resources.cpus:g}"
    count = cluster.room(resources)
    count = min(count, settings.actors or resources.most or count)
    address = cluster.where(settings.address)
    place = "this machine" if address == cluster.LOCAL else f"the Ray cluster at {address}"
    if endpoint := config.about().get("endpoint"):
        return f"{what} at {endpoint}, asked from {place}"
    engines = f"{count} engine{'s' * (count != 1)}" if count else "no room for an engine yet"
    return f"{what} on {device} an engine; {engines} on {place}: {cluster.describe()}"
