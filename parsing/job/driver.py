"""A run: joins the cluster, opens the folder, parses what is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from parsing.job import cluster
from parsing.job.run_folder import RunFolder
from parsing.job.settings import RunSettings
from parsing.job.worker import parse_table, screen
from parsing.parser import ParserConfig
from parsing.source import cleaning
from parsing.versions import digest_of


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
    settings.source.check()  # a missing or unreadable input is told before a cluster is started
    with cluster.connected(settings.address):
        config = choose_parser()
        config.check()
        config = config.pinned()
        shared = {"cleaning": cleaning.digest(), "screening": digest_of(screen, parse_table)}
        folder = RunFolder(settings.output)
        with folder.opened(config.fingerprint() | shared):
            # Ray reads its environment when it is imported: only now is it as it should be.
            from parsing.job.shard_run import ShardRun

            ShardRun(settings, config, folder, began).finish()
    return folder
