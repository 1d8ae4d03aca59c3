"""Captions with the answers that a student learns, from a teacher's run and from gold."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from common.errors import UserError
from eval.parser_scores.gold import GoldCaption, read_gold
from eval.parser_scores.tag_scores import Comparer
from parsing.distillation.settings import DistillSettings, SourceName
from parsing.job.run_folder import RunFolder
from parsing.llm.answers import Form, read_answer, write_answer
from parsing.source.cleaning import clean
from parsing.tags import OK
from parsing.words import words

_CASES = (str.lower, str.upper, str.title)  # a word keeps its spelling wherever it stands


@dataclass(frozen=True)
class Example:
    """A caption as the model sees it, and the answer that it is to learn."""

    caption: str
    answer: str


@dataclass
class Examples:
    """One source of examples.

    Attributes:
        name, weight: as given.
        learned: for training.
        held_out: for scoring; `GoldCaption` with the source's own tags.
        digest: SHA-256 of what was read, in hex.
        fingerprint: of the teacher's run; None for gold.
    """

    name: str
    weight: float
    learned: list[Example] = field(default_factory=list)
    held_out: list[GoldCaption] = field(default_factory=list)
    digest: str = ""
    fingerprint: dict[str, Any] | None = None


def read_examples(settings: DistillSettings, form: Form) -> list[Examples]:
    """Reads every source and splits off its held-out share.

    Raises:
        UserError: a teacher's run is missing, unfinished, of another schema or without a usable
            answer; a gold file can't be read or most of its tags aren't in its captions.
    """
    sources = []
    same = _same_word()
    for text in settings.teacher:
        name = SourceName.of(text, "--teacher")
        tags, fingerprint = _read_teacher(name.name)
        sources.append(_split(name, tags, settings, form, same, fingerprint))
    for text in settings.gold:
        name = SourceName.of(text, "--gold")
        sources.append(_split(name, read_gold(name.name), settings, form, same, None))
    if not any(source.learned for source in sources):
        raise UserError("nothing is left to learn after the held-out share: give more captions")
    return sources


def drawn(sources: Sequence[Examples], epochs: float, seed: int) -> list[Example]:
    """The examples of all epochs, each source as often as its weight says, in no order.

    Args:
        epochs: may have a fraction; a weight of 1.5 in 2 epochs takes every caption three times.
        seed: of the fraction that is drawn.
    """
    rng = random.Random(seed)
    found: list[Example] = []
    for source in sources:
        whole, part = divmod(source.weight * epochs, 1)
        found += source.learned * int(whole)
        found += rng.sample(source.learned, round(part * len(source.learned)))
    return found


def digests(sources: Sequence[Examples]) -> dict[str, str]:
    """Source -> hash of what was read from it."""
    return {source.name: source.digest for source in sources}


def recased(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """The examples, a share of them in another case, caption and answer alike.

    Args:
        share: from 0 to 1; each of these is put in lower, upper or title case by chance.
        seed: of both choices.
    """
    rng = random.Random(seed)
    found = []
    for example in examples:
        case = rng.choice(_CASES) if rng.random() < share else str
        found.append(Example(case(example.caption), case(example.answer)))
    return found


def _same_word() -> tuple[Callable[[str], str], Callable[[str], str]]:
    """The forms in which a word of a tag and a word of a caption are compared: objects, attributes."""
    comparer = Comparer()
    adjectives = comparer.normaliser.rules.adjectives  # `wood` is the attribute `wooden`

    def form(word: str) -> str:
        return comparer.form(word.casefold())

    return form, lambda word: adjectives.get(word.casefold(), form(word))


def _split(
    name: SourceName,
    tags: Sequence[GoldCaption],
    settings: DistillSettings,
    form: Form,
    same: tuple[Callable[[str], str], Callable[[str], str]],
    fingerprint: dict[str, Any] | None,
) -> Examples:
    source = Examples(name.name, name.weight, fingerprint=fingerprint)
    digest = hashlib.sha256()
    share = min(settings.held_out, settings.max_held_out / len(tags))
    lost = total = 0
    for row in tags:
        digest.update(repr((row.caption, row.objects, row.attributes)).encode())
        if _drawn(row.caption) < share:
            source.held_out.append(row)
            continue
        caption = clean(row.caption)
        if not words(caption):
            continue
        answer = write_answer(caption, row.objects, row.attributes, form, *same)
        source.learned.append(Example(caption, answer))
        total += len(row.objects)
        lost += len(row.objects) - len(read_answer(answer, caption, form).objects)
    if total and lost > total / 2:
        raise UserError(
            f"{name.name}: {lost:,} of {total:,} objects are not in the words of their captions; a "
            "student learns tags that the caption says"
        )
    if not source.held_out:  # a handful of captions: the last one is scored
        source.held_out.append(tags[-1])
    source.digest = digest.hexdigest()
    return source


def _drawn(caption: str) -> float:
    """A number from 0 to 1 that depends on the caption alone.

    Equal captions stay together, and trainings of other seeds, which may be averaged, hold out the
    same ones.
    """
    digest = hashlib.sha256(f"0\0{caption}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _read_teacher(url: str) -> tuple[list[GoldCaption], dict[str, Any]]:
    folder = RunFolder(url)
    manifest = folder.finished_manifest()
    tags = [
        row
        for shard in range(manifest["shards"])
        for row in _answered(
            folder.read(shard, ["caption", "objects", "attributes", "status", "error", "raw"])
        )
    ]
    if not tags:
        raise UserError(
            f"the teacher {url} has no answer to learn from: no row has the status `ok`"
        )
    return tags, manifest["fingerprint"]


def _answered(table: pa.Table) -> Iterator[GoldCaption]:
    """Rows that were answered in full, with the tags in the answer's own words."""
    form = Form()
    for row in table.to_pylist():
        if row["status"] != OK or row["error"] is not None:
            continue
        objects = row["objects"]
        attributes = [(pair["attribute"], pair["object"]) for pair in row["attributes"]]
        if row["raw"] is not None:
            answer = read_answer(row["raw"], clean(row["caption"]), form)
            objects, attributes = answer.objects, answer.attributes
        yield GoldCaption(row["caption"], tuple(objects), tuple(attributes))
