"""Captions into shards, shards through the pool, tags into the run's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from common.errors import UserError
from parsing.job import cluster
from parsing.job.caption_pass import CaptionPass
from parsing.job.endurance import Limits
from parsing.job.metrics import Metrics
from parsing.job.piece import Piece
from parsing.job.pool import Pool
from parsing.job.progress import Progress
from parsing.job.run_folder import RunFolder
from parsing.job.settings import RunSettings
from parsing.job.silence import Silence
from parsing.job.starts import Starts
from parsing.parser import ParserConfig
from parsing.source.captions import Counts, read_shard, write_caption_shards
from parsing.tags import FAILED

_COUNTS = (
    "rows",
    "objects",
    "attributes",
    "prompt_tokens",
    "output_tokens",
    "dropped_tags",
    "seconds",
)


class ShardRun:
    """One process's part in a run, on a cluster and a folder that are there.

    Args:
        began: `time.time` of the process's start.
        elastic: whether nodes may join the cluster.
        silence: told what is being done.
    """

    def __init__(
        self,
        settings: RunSettings,
        config: ParserConfig,
        folder: RunFolder,
        began: float,
        elastic: bool,
        silence: Silence,
    ):
        self._settings, self._config, self._folder = settings, config, folder
        self._elastic, self._silence = elastic, silence
        self._began, self._starts = began, Starts(folder, began)
        self._partial: dict[int, list[tuple[pa.Table, dict[str, Any]]]] = {}
        self._rows: dict[int, int] = {}  # of the shards in work
        self._again: set[int] = set()  # committed shards whose failed rows are parsed again
        self._committed: dict[int, dict[str, Any]] = {}  # before this start

    def finish(self) -> None:
        """Parses what is left.

        Raises:
            UserError: see `driver.run`.
        """
        self._silence.doing("looking at the shards that are there")
        self._committed = self._folder.committed(mend=True)
        self._starts.begin(self._config)
        if self._is_complete() and not self._settings.retry_failed:
            counts = write_caption_shards(
                self._folder.folder, self._settings.source, self._settings.selection
            )
            if counts.shards == len(self._committed):
                return self._note_end(counts)
        done = sum(stats["rows"] for stats in self._committed.values())
        limits = Limits(
            start=60 * self._settings.start_limit, answer=60 * self._settings.answer_limit
        )
        pool = captions = None
        resources = cluster.resolve(self._config.resources())
        self._progress = Progress(
            None,
            done,
            unit="GPU" if resources.gpus else "CPU",
            per_actor=resources.gpus or resources.cpus,
            spoken=self._silence.broken,
        )
        failed = sum(map(self._failures, self._committed.values()))
        self._metrics = Metrics(self._folder.folder, self._began, done, failed)
        try:
            pool = Pool(
                self._config,
                self._settings.actors or resources.most,
                wait=60 * self._settings.wait_for_room,
                elastic=self._elastic,
                limits=limits,
                say=self._progress.say,
            )
            # Parsers load, and parse the first shards, while the captions are read.
            captions = CaptionPass(
                self._folder.folder,
                self._settings.source,
                self._settings.selection,
                keep=bool(self._committed),
                tell=lambda note: self._progress.say(f"note: {note}"),
            )
            self._parse(pool, captions)
        finally:
            self._silence.doing("stopping the parsers")
            if captions is not None:
                captions.close()
            if pool is not None:
                self._starts.stopped(pool)
                pool.close()
            self._progress.close()
            self._metrics.close()
        self._note_end(captions.counts)

    def _is_complete(self) -> bool:
        manifest = self._folder.manifest()
        return manifest.get("finished", False) and manifest.get("shards") == len(self._committed)

    def _parse(self, pool: Pool, captions: CaptionPass) -> None:
        limited = False
        for result in pool.run(self._pieces(captions)):
            captions.check()
            if captions.counts is not None and not limited:
                limited = True
                self._note_pass(captions.counts, pool)
            if result is not None:
                self._collect(*result)
            self._starts.note(pool)
            self._silence.doing(pool.state())
            if captions.counts is None:
                self._progress.read(captions.images)
            tally, held = pool.tally(), pool.actor_seconds()
            self._metrics.update(*tally, pool.queued, pool.ready, held)
            self._progress.update(*tally, pool.ready, held, pool.state())
        captions.check()
        if not limited:
            self._note_pass(captions.counts, pool)

    def _note_pass(self, counts: Counts, pool: Pool) -> None:
        """The input has been read: what is left is known."""
        self._starts.input_read()
        self._folder.update_manifest(shards=counts.shards, images=counts.images)
        self._progress.expect(counts.captions)
        self._metrics.expect(counts.captions)
        left = counts.shards - sum(shard < counts.shards for shard in self._committed)
        again = sum(map(bool, map(self._failures, self._committed.values())))
        pool.limit(max(1, left + again * self._settings.retry_failed))

    @staticmethod
    def _failures(stats: dict[str, Any]) -> int:
        return stats["statuses"].get(FAILED, 0)

    def _pieces(self, captions: CaptionPass) -> Iterator[Piece | None]:
        """Every shard that is to be parsed, once the pass has written it; None while it has not."""
        folder = self._folder.folder.sub("captions")
        for shard in captions.shards():
            if shard is None:
                yield None
                continue
            if shard not in self._committed:
                table = read_shard(folder, shard)
                self._rows[shard] = len(table)
                yield Piece(shard, table)
                continue
            failures = self._failures(self._committed[shard])
            if captions.anew or failures:
                table = read_shard(folder, shard)
                self._check_same(shard, table)
            if self._settings.retry_failed and failures:
                failed = pc.equal(self._folder.read(shard, ["status"])["status"], FAILED)
                # A malformed row of the input would only fail again.
                table = table.filter(pc.and_(failed, pc.is_null(table["problem"])))
                if len(table):
                    self._rows[shard] = len(table)
                    self._again.add(shard)
                    self._progress.parsed_again(len(table))
                    yield Piece(shard, table)

    def _check_same(self, shard: int, captions: pa.Table) -> None:
        """A pass that was interrupted is made again: what it finds must be what was parsed."""
        if not self._folder.read(shard, ["caption"])["caption"].equals(captions["caption"]):
            raise UserError(
                f"shard {shard} of {self._folder.url} was parsed from other captions than the input "
                "has now: give the same input again, or another --output"
            )

    def _collect(self, piece: Piece, tags: pa.Table, stats: dict[str, Any]) -> None:
        """Commits a shard once all its pieces are there."""
        pieces = self._partial.setdefault(piece.shard, [])
        pieces.append((tags, stats))
        if sum(len(table) for table, _ in pieces) < self._rows[piece.shard]:
            return
        del self._partial[piece.shard]
        table = pa.concat_tables([table for table, _ in pieces]).sort_by("caption_id")
        merged = merge_stats([each for _, each in pieces])
        self._progress.committed(merged["statuses"])
        if piece.shard in self._again:
            table, merged = self._mended(piece.shard, table, merged)
            before = self._committed[piece.shard]
        else:
            before = {"rows": 0, "statuses": {}}
        self._silence.doing(f"writing shard {piece.shard} to {self._folder.url}")
        self._folder.commit(piece.shard, table, merged)
        failures = self._failures(merged) - self._failures(before)
        self._metrics.committed(merged["rows"] - before["rows"], failures)
        del self._rows[piece.shard]
        self._starts.committed()

    def _mended(self, shard: int, tags: pa.Table, stats: dict[str, Any]):
        """A committed shard with some of its rows parsed again."""
        old = self._folder.read(shard)
        kept = old.filter(
            pc.invert(pc.is_in(old["caption_id"], tags["caption_id"].combine_chunks()))
        )
        table = pa.concat_tables([kept, tags]).sort_by("caption_id")
        before = self._folder.stats(shard)
        merged = merge_stats([before, stats])
        statuses = Counter(table["status"].to_pylist())
        merged["statuses"] = {status: statuses[status] for status in before["statuses"]}
        merged |= {
            "rows": len(table),
            "objects": pc.sum(pc.list_value_length(table["objects"])).as_py(),
            "attributes": pc.sum(pc.list_value_length(table["attributes"])).as_py(),
        }
        return table, merged

    def _note_end(self, counts: Counts) -> None:
        self._silence.doing("counting what was parsed")
        stats = self._folder.committed()
        if len(stats) < counts.shards:
            raise UserError(
                f"{counts.shards - len(stats)} shards are missing: run the same command"
            )
        self._starts.end()
        self._folder.update_manifest(
            shards=counts.shards,
            images=counts.images,
            counts=merge_stats(list(stats.values())),
            finished=True,
        )


def merge_stats(stats: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums the counts of pieces or shards; what isn't a count is dropped."""
    total: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for each in stats:
        statuses.update(each["statuses"])
        total.update({name: each.get(name, 0) for name in _COUNTS})
    hosts = sorted({each["host"] for each in stats if "host" in each})
    return (
        dict(total) | {"statuses": dict(statuses)} | ({"host": ", ".join(hosts)} if hosts else {})
    )
