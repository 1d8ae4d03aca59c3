"""One run's folder: what has been parsed, what is left, and what was run.

    manifest.json            what was asked for, what it cost, and what came out
    part-000000.parquet      the tags of one caption shard, schema `parsing.tags.TAGS`
    part-000000.json         its stats; this file's presence commits the shard
    captions/, index/        see `parsing.source.captions`

A shard's tags are written first and its stats last, each aside and renamed, so that whatever is
killed at whatever moment leaves a shard either committed or to be parsed again. The tags' file
carries the stats in its footer too: where a shard is written a second time and the writer is killed
in between, the footer's are those of the tags. It also tells the run and the number of the shard, so
that a file of another run, or of another place, is not taken for this one's.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError
from common.storage import Folder
from parsing.source.captions import part_name
from parsing.tags import TAGS

MANIFEST = "manifest.json"
_IN_FOOTER = b"tagalign.stats"
_PLACE = b"tagalign.shard"  # as JSON: the run's `id` and the shard's number
_STATS = re.compile(r"part-(\d+)\.json")


class RunFolder:
    """The folder of one run; made where there is none.

    Args:
        url: local path or fsspec URL.
    """

    def __init__(self, url: str):
        self.folder = Folder(url)
        self.url = self.folder.url
        self._run: str | None = None  # `id` of the manifest, once read

    @contextlib.contextmanager
    def opened(self, fingerprint: dict[str, Any]) -> Iterator[None]:
        """Holds the folder for this process and for this fingerprint.

        Raises:
            UserError: it belongs to another run, another process is writing to it, or it cannot
                be written to.
        """
        self.folder.make()
        with self.folder.lock():
            for folder in (self.folder, self.folder.sub("captions"), self.folder.sub("index")):
                folder.remove_leftovers()
            self._check_fingerprint(fingerprint)
            yield

    def _check_fingerprint(self, wanted: dict[str, Any]) -> None:
        wanted = json.loads(json.dumps(wanted))  # as it reads back
        if not self.folder.exists(MANIFEST):
            if self.folder.names(".parquet"):
                raise UserError(f"{self.url} holds Parquet files but no run: give another --output")
            begun = {"id": uuid.uuid4().hex, "fingerprint": wanted, "finished": False}
            self.folder.write_json(MANIFEST, begun)
            return
        found = self.manifest()["fingerprint"]
        differing = sorted(k for k in found | wanted if found.get(k) != wanted.get(k))
        if differing:
            raise UserError(
                f"{self.url} belongs to a run with another {', '.join(differing)}: "
                "give another --output, or the settings in its manifest.json"
            )

    def manifest(self) -> dict[str, Any]:
        """The manifest; its `fingerprint` and its `sessions` have their shapes.

        Raises:
            UserError: it is damaged, or no run's.
        """
        found = self.folder.read_json(MANIFEST)
        if not isinstance(found, dict) or not isinstance(found.get("fingerprint"), dict):
            raise UserError(f"{self.url} holds no run: its {MANIFEST} has no `fingerprint`")
        sessions = found.get("sessions", [])
        if not isinstance(sessions, list) or not all(map(_is_session, sessions)):
            raise UserError(
                f"{self.url}/{MANIFEST} is damaged: its `sessions` are no starts of a run"
            )
        return found

    def finished_manifest(self) -> dict[str, Any]:
        """The manifest of a run that is finished, its files opened and counted.

        Raises:
            UserError: there is no run, it isn't finished, or a file of it is missing, damaged or of
                another schema.
        """
        if not self.folder.exists(MANIFEST):
            raise UserError(f"{self.url} holds no run: it has no {MANIFEST}")
        manifest = self.manifest()
        missing = [key for key in ("shards", "finished") if key not in manifest]
        if missing:
            raise UserError(f"{self.url} holds no run: its {MANIFEST} has no `{missing[0]}`")
        if not manifest["finished"]:
            raise UserError(f"the run in {self.url} is not finished: run its command again first")
        for shard in range(manifest["shards"]):
            self._check_shard(shard)
        return manifest

    def _check_shard(self, shard: int) -> None:
        path = self.folder.path(part_name(shard))
        try:
            schema = pq.read_schema(pa.BufferReader(self.folder.read(part_name(shard))))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        for field in TAGS:
            place = schema.get_field_index(field.name)
            if place < 0 or schema.field(place).type != field.type:
                found = "is missing" if place < 0 else f"is {schema.field(place).type}"
                raise UserError(f"{path} holds no tags: column `{field.name}` {found}")

    def update_manifest(self, **entries: Any) -> None:
        self.folder.write_json(MANIFEST, self.manifest() | entries)

    def committed(self, mend: bool = False) -> dict[int, dict[str, Any]]:
        """Stats of the committed shards by number.

        A shard is committed where its stats are there and its tags open with as many rows as they
        state. What was deleted, cut off, or replaced by another shard is parsed again.

        Args:
            mend: write the stats again that are not those of their tags; only for the process that
                holds the folder.
        """
        stats, run = {}, self._id()
        for name in self.folder.names(".json"):
            if match := _STATS.fullmatch(name):
                shard = int(match[1])
                try:
                    found = self.stats(shard)
                except UserError:  # cut off
                    continue
                rows, own = self._footer(shard, run)
                if own is not None and own != found:
                    found = own
                    if mend:
                        self.folder.write_json(part_name(shard, "json"), found)
                if rows is not None and found.get("rows", rows) == rows:
                    stats[shard] = found
        return stats

    def _id(self) -> str | None:
        """The manifest's `id`, which never changes; None where there is none."""
        if self._run is None and self.folder.exists(MANIFEST):
            self._run = self.manifest().get("id")
        return self._run

    def _footer(self, shard: int, run: str | None) -> tuple[int | None, dict[str, Any] | None]:
        """Rows of a shard's tags and the stats that were written with them, each None if unknown.

        Both are None where the tags say that they are another shard's, or of another run.
        """
        try:
            with self.folder.fs.open(self.folder.path(part_name(shard)), "rb") as file:
                footer = pq.read_metadata(file)
            metadata = footer.metadata or {}
            if not belongs(footer, run, shard):
                return None, None
            found = json.loads(metadata.get(_IN_FOOTER, b"null"))
            return footer.num_rows, found if _are_stats(found) else None
        except (OSError, ValueError, pa.ArrowException):
            return None, None

    def stats(self, shard: int) -> dict[str, Any]:
        """Stats of one committed shard.

        Raises:
            UserError: they are damaged.
        """
        name = part_name(shard, "json")
        if not _are_stats(found := self.folder.read_json(name)):
            raise UserError(f"{self.url}/{name} is damaged: it holds no stats of a shard")
        return found

    def commit(self, shard: int, table: pa.Table, stats: dict[str, Any]) -> None:
        """Writes a shard's tags, schema `TAGS`, then its stats.

        Raises:
            UserError: no room or no permission; the shard is not committed then.
        """
        stats = json.loads(json.dumps(stats | {"committed": time.time()}))  # as it reads back
        place = json.dumps([self._id(), shard])
        schema = TAGS.with_metadata({_IN_FOOTER: json.dumps(stats), _PLACE: place})
        self.folder.write_table(part_name(shard), table.cast(TAGS).cast(schema))
        self.folder.write_json(part_name(shard, "json"), stats)

    def read(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The tags of a committed shard, schema `TAGS`."""
        return self.folder.read_table(part_name(shard), columns)


def belongs(footer: pq.FileMetaData, run: str | None, shard: int) -> bool:
    """Whether a file of tags is this shard of this run, as far as it tells.

    Args:
        run: `id` in the run's manifest.

    Raises:
        ValueError: what it tells is damaged.
    """
    place = json.loads((footer.metadata or {}).get(_PLACE, b"null"))
    return place is None or place == [run, shard]


def _is_session(found: Any) -> bool:
    numbers = ("began", "seconds", "actor_hours", "gpus_an_actor")
    return isinstance(found, dict) and all(_is_number(found.get(name, 0)) for name in numbers)


def _are_stats(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(statuses := found.get("statuses", {}), dict):
        return False
    counts = [found.get("rows", 0), found.get("committed", 0), *statuses.values()]
    return all(map(_is_number, counts))


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float)
