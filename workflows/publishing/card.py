"""The card of a published data set: a YAML header for the hub, and a page to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from labels.counting import TagCounts
from labels.vocabulary import KINDS, Vocabulary

TEMPLATE = "card.md.jinja"
TOP = 10
_SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6),
          ("1M<n<10M", 10**7), ("10M<n<100M", 10**8), ("100M<n<1B", 10**9))  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """The facts that a card states.

    Attributes:
        place: what `load_dataset` opens, the repository or the folder.
        title, source, licence, language: from the flags.
        rows: name of each part of the data set -> number of its rows.
        statuses: status of `parsing.tags.STATUSES` -> number of captions.
        counts: of all tags.
        vocabulary: None without labels.
        scored: the labels carry scores of a check against the pictures.
        labelled: images with at least one label.
        manifest: of the run; empty where there is none.
        scores: `scores.json` of eval/parsers.py, or None.
        raw: the parser's answers are published too.
    """

    place: str
    title: str
    source: str | None
    licence: str
    language: str
    rows: dict[str, int]
    statuses: dict[str, int]
    counts: TagCounts
    vocabulary: Vocabulary | None
    scored: bool
    labelled: int
    manifest: dict[str, Any]
    scores: dict[str, Any] | None
    raw: bool


def card(contents: Contents) -> str:
    """The text of README.md."""
    from huggingface_hub import DatasetCardData
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    rows = max(contents.rows.values())
    header = DatasetCardData(
        license=contents.licence,
        language=contents.language,
        pretty_name=contents.title,
        annotations_creators="machine-generated",
        size_categories=next((name for name, least in _SIZES if rows < least), "n>1T"),
        task_categories=["image-segmentation", "image-classification"],
        tags=["image-tags", "tagalign"],
        configs=[
            {"config_name": name, "data_files": f"{name}/train-*.parquet"}
            | ({"default": True} if name == "tags" else {})
            for name in contents.rows
        ],
    )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    environment.filters["n"] = lambda value: f"{value:,}"
    page = environment.get_template(TEMPLATE).render(
        about=contents, kinds=_kinds(contents), parser=_parser(contents.manifest),
        scores=_scores(contents.scores), imported=_imported(contents.manifest),
    )  # fmt: skip
    return f"---\n{header.to_yaml()}\n---\n\n{page}"


def _kinds(contents: Contents) -> list[dict[str, Any]]:
    """Counts and coverage of each kind of tag."""
    found = []
    for kind in KINDS:
        table = contents.counts.tags.filter(pl.col("kind").cast(pl.String) == kind)
        mentions, own = int(table["count"].sum()), None
        if contents.vocabulary is not None:
            names = [contents.vocabulary.tags[i] for i in contents.vocabulary.ids(kind)]
            own = int(table.filter(pl.col("tag").is_in(names))["count"].sum())
        top = table.sort(["count", "tag"], descending=[True, False]).head(TOP)
        found.append(
            {
                "name": kind,
                "mentions": mentions,
                "distinct": len(table),
                "kept": len(contents.vocabulary.ids(kind)) if contents.vocabulary else None,
                "covered": f"{100 * own / mentions:.2f}%" if own is not None and mentions else "-",
                "top": ", ".join(f"{tag} ({count:,})" for tag, count in
                                 top.select("tag", "count").iter_rows()),
            }
        )  # fmt: skip
    return found


def _parser(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """What the manifest says about the parser: the entries of its fingerprint, and versions."""
    fingerprint = manifest.get("fingerprint", {})
    rows = [(name.replace("_", " "), _text(value)) for name, value in fingerprint.items()]
    versions = manifest.get("versions", {})
    if versions:
        rows.append(("versions", ", ".join(f"{name} {value}" for name, value in versions.items())))
    return [(name, text) for name, text in rows if text]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value if each is not None)
    text = "" if value is None else " ".join(str(value).split())
    return text.replace("|", "\\|") if len(text) <= 200 else f"{text[:199]}…".replace("|", "\\|")


def _imported(manifest: dict[str, Any]) -> bool:
    return manifest.get("fingerprint", {}).get("parser") == "imported"


def _scores(scores: dict[str, Any] | None) -> list[tuple[str, int, str, list[str]]]:
    """(gold, captions, parser, F1 of objects, attributes and pairs) of every parser."""
    if scores is None:
        return []
    return [
        (gold["name"], gold["captions"], parser["name"],
         [_f1(parser.get(kind)) for kind in ("objects", "attributes", "pairs")])
        for gold in scores["golds"] for parser in gold["parsers"]
    ]  # fmt: skip


def _f1(figures: dict[str, Any] | None) -> str:
    value = (figures or {}).get("f1") or {}
    if value.get("value") is None:
        return "-"
    low, high = value.get("low"), value.get("high")
    return f"{value['value']:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")
