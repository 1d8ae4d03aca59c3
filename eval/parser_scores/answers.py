"""What a parser answers to gold captions: asked here and now, or read from a folder of tags."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError
from common.storage import Folder
from eval.parser_scores.gold import GoldFile
from parsing.parser import ParserConfig
from parsing.source.cleaning import clean
from parsing.tags import TAGS, Parsed

_WARM_UP = 16


@dataclass(frozen=True)
class Answers:
    """One parser's tags of every caption of one gold file.

    Attributes:
        name: of the parser or of the folder.
        parsed: one per gold caption, in order.
        rate: captions per second of one parser; None where nobody measured it.
        cold_start: seconds until the parser could answer; None for a folder.
    """

    name: str
    parsed: list[Parsed]
    rate: float | None
    cold_start: float | None


def ask(config: ParserConfig, golds: Sequence[GoldFile]) -> list[Answers]:
    """Builds the parser once in this process and has it parse each gold file, against the clock.

    Returns:
        one per gold file, in order; the files share the cold start, and each has its own rate.

    Raises:
        UserError: the parser cannot be built.
    """
    captions = [[clean(item.caption) for item in gold.captions] for gold in golds]  # as in a run
    answers = []
    began = time.perf_counter()
    parser = config.build()
    try:
        parser.parse(captions[0][:1])
        cold_start = time.perf_counter() - began
        parser.parse(captions[0][:_WARM_UP])
        for each in captions:
            began = time.perf_counter()
            parsed = parser.parse(each)
            seconds = time.perf_counter() - began
            answers.append(Answers(config.name, parsed, len(each) / max(seconds, 1e-9), cold_start))
    finally:
        parser.close()
    return answers


def read_tags(url: str, golds: Sequence[GoldFile], name: str | None = None) -> list[Answers]:
    """Reads the answers to gold captions from a folder of tags that a run has written.

    Rows are found by their captions; the folder may hold any number of others, and is read once.

    Returns:
        one per gold file, in order, all with the run's own rate.

    Raises:
        UserError: there are no tags, a file is damaged or of another schema, or a gold caption
            has no row.
    """
    folder = Folder(url)
    parts = [n for n in folder.names(".parquet") if n.startswith("part-")]
    if not parts:
        raise UserError(f"{url} holds no tags: no part-*.parquet in it")
    captions = [[item.caption.strip() for item in gold.captions] for gold in golds]
    wanted = pl.DataFrame({"caption": list(set(chain.from_iterable(captions)))})
    found: dict[str, Parsed] = {}
    for part in parts:
        table = pl.from_arrow(_read_part(folder, part)).with_columns(
            pl.col("caption").str.strip_chars()
        )
        for row in table.join(wanted, on="caption", how="semi").iter_rows(named=True):
            pairs = [(pair["attribute"], pair["object"]) for pair in row["attributes"]]
            found[row["caption"]] = Parsed(row["objects"], pairs, row["status"], row["error"])
    for gold, own in zip(golds, captions, strict=True):
        lacking = [caption for caption in own if caption not in found]
        if lacking:
            raise UserError(
                f"{url} has no tags for {len(lacking)} of {len(own)} captions of {gold.name}, the "
                f"first being '{lacking[0]}': parse the gold file itself with --captions"
            )
    rate = _rate(folder, parts)
    return [Answers(name or url, [found[c] for c in own], rate, None) for own in captions]


def _read_part(folder: Folder, part: str) -> pa.Table:
    columns = ("caption", "objects", "attributes", "status", "error")
    try:
        file = pq.ParquetFile(pa.BufferReader(folder.read(part)))
        for column in columns:
            place = file.schema_arrow.get_field_index(column)
            if place < 0:
                raise UserError(f"{folder.path(part)} has no column `{column}`")
            if file.schema_arrow.field(place).type != TAGS.field(column).type:
                kind = file.schema_arrow.field(place).type
                raise UserError(f"{folder.path(part)}: column `{column}` is {kind}, not tags")
        return file.read(columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{folder.path(part)} cannot be read: {error}") from error


def _rate(folder: Folder, parts: Sequence[str]) -> float | None:
    """Captions per second by the stats that the run left beside its parts."""
    rows = seconds = 0.0
    for part in parts:
        name = part.removesuffix(".parquet") + ".json"
        if not folder.exists(name):
            return None
        stats = folder.read_json(name)
        if not stats.get("seconds") or not stats.get("rows"):
            return None
        rows += stats["rows"]
        seconds += stats["seconds"]
    return rows / seconds
