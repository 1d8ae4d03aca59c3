"""The Ray actor: builds one parser, filters out captions that need none, counts."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from parsing.job.secrets import Secrets
from parsing.parser import Parser, ParserConfig
from parsing.source.cleaning import clean_all
from parsing.tags import EMPTY, FAILED, TOO_LONG, Parsed, count_statuses, tags_table

COUNTED = 64  # captions between two signs of life of a parser that has no count of its own
MAX_CHARACTERS = 10_000  # a caption of more is a page; parsers may draw a closer line


def screen(caption: str, problem: str | None) -> Parsed | None:
    """The result for a caption that needs no parser, or None for one that does."""
    if problem is not None:
        return Parsed(status=FAILED, error=problem)
    if len(caption) > MAX_CHARACTERS:
        error = f"{len(caption):,} characters; at most {MAX_CHARACTERS:,} are parsed"
        return Parsed(status=TOO_LONG, error=error)
    if not any(map(str.isalpha, caption)):
        return Parsed(status=EMPTY, error="no word in it")
    return None


def parse_table(
    parser: Parser,
    captions: pa.Table,
    count: Callable[[int, int], None] = lambda rows, tokens: None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Tags and stats of captions. The parser sees them cleaned, the tags' table as they are.

    Args:
        captions: schema `parsing.source.captions.CAPTIONS`.
        count: called with captions and output tokens as they are finished. A parser that has a
            count of its own (`tally`) gets all captions in one call, any other `COUNTED` in each.

    Returns:
        The tags, schema `parsing.tags.TAGS`, in the same order, and counts: rows, rows by
        status, tags, tokens, and seconds.
    """
    began = time.monotonic()
    texts = captions["caption"].to_pylist()
    results = [screen(*row) for row in zip(texts, captions["problem"].to_pylist(), strict=True)]
    asked = [n for n, result in enumerate(results) if result is None]
    column = captions["caption"]
    if len(asked) < len(texts):
        column = column.take(pa.array(asked, pa.int64()))
    cleaned = clean_all(column, [texts[n] for n in asked])
    prompts = {
        n: text for n, text in zip(asked, cleaned, strict=True) if any(map(str.isalpha, text))
    }
    for n in set(asked) - set(prompts):
        results[n] = Parsed(status=EMPTY, error="no word in it but markup, URLs and file names")
    count(len(results) - len(prompts), 0)
    places = list(prompts)
    together = len(places) if hasattr(parser, "tally") else COUNTED
    while places:
        some, places = places[:together], places[together:]
        answers = parser.parse([prompts[n] for n in some])
        for n, parsed in zip(some, answers, strict=True):
            results[n] = parsed
        count(len(some), sum(parsed.output_tokens for parsed in answers))
    table = tags_table(captions["caption_id"].to_pylist(), texts, results)
    return table, _stats(results) | {"seconds": round(time.monotonic() - began, 3)}


def _stats(results: Sequence[Parsed]) -> dict[str, Any]:
    return {
        "rows": len(results),
        "statuses": count_statuses(results),
        "objects": sum(len(r.objects) for r in results),
        "attributes": sum(len(r.attributes) for r in results),
        "prompt_tokens": sum(r.prompt_tokens for r in results),
        "output_tokens": sum(r.output_tokens for r in results),
        "dropped_tags": sum(r.dropped for r in results),
    }


class Worker:
    """A Ray actor's class; its methods run in several threads at once.

    Building the parser is a method of its own, not `__init__`: what a method raises arrives at
    the driver as it was raised, with its sentence.
    """

    def __init__(self, config: ParserConfig):
        self._config = config
        self._parser: Parser | None = None
        self._lock = threading.Lock()
        self._rows = self._tokens = 0

    def placed(self) -> dict[str, Any]:
        """Host, process id and Ray's id of the node; returns once Ray has placed the actor there."""
        import ray

        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
        return {"host": socket.gethostname(), "pid": os.getpid(), "node": node}

    def start(self, secrets: Secrets) -> float:
        """Builds the parser; returns how many seconds it took.

        Args:
            secrets: for the hub or an endpoint. They come as an argument of a call because Ray
                shows an actor's environment to everybody who may see the dashboard.
        """
        began = time.monotonic()
        secrets.set()
        self._config.check()
        self._parser = self._config.build()
        return time.monotonic() - began

    def parse(self, captions: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
        """See `parse_table`."""
        table, stats = parse_table(self._parser, captions, self._count)
        return table, stats | {"host": socket.gethostname()}

    def _count(self, rows: int, tokens: int) -> None:
        with self._lock:
            self._rows += rows
            self._tokens += tokens

    def progress(self) -> tuple[int, int]:
        """Captions and output tokens finished so far."""
        # A parser that takes minutes for a shard counts caption by caption.
        tally = getattr(self._parser, "tally", None)
        return tally() if tally else (self._rows, self._tokens)

    def stop(self) -> None:
        if self._parser is not None:
            self._parser.close()
