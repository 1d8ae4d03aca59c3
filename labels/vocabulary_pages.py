"""Writes the pages of the vocabularies once their label files are complete.

What goes wrong here is told and nothing else: a page must not spoil labels that are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from common.errors import reason
from common.storage import Folder
from labels.near_duplicates import load_text_encoder, near_duplicates
from labels.settings import Settings
from labels.summary import Coverage
from labels.tag_folders import TagFolder
from labels.vocabulary_examples import find_examples
from labels.vocabulary_page import vocabulary_page
from labels.workspace import join, split


def write_pages(
    folders: Sequence[TagFolder],
    coverages: Sequence[Coverage],
    ranked: Mapping[str, pl.DataFrame],
    synonyms: Mapping[str, str],
    settings: Settings,
    note: Callable[[str], None],
) -> None:
    """Writes `NAME.html` beside every label file, and adds it to the paths of its coverage.

    Args:
        folders: the captions.
        coverages: one per label file, in the order of `settings.outs()`.
        ranked: kind -> columns `tag`, `count`, all tags, most frequent first.
        synonyms: tag -> tag that it counts as.
        settings: of the command.
        note: called with a sentence where a page cannot be written.
    """
    try:
        embed = load_text_encoder(settings.text_encoder) if settings.text_encoder else None
        largest = max((coverage.vocabulary for coverage in coverages), key=len)
        examples = find_examples(folders, largest, synonyms)
        for out, coverage in zip(settings.outs(), coverages, strict=True):
            folder, name = split(out)
            stem = name.removesuffix(".parquet")
            near = near_duplicates(coverage.vocabulary, embed)
            page = vocabulary_page(stem, coverage.vocabulary, ranked, examples, near)
            Folder(folder).write(f"{stem}.html", page)
            coverage.paths.append(join(folder, f"{stem}.html"))
    except Exception as error:  # whatever it is, the labels are there
        note(f"the label files are complete, but not the page of the tags: {reason(error)}")
