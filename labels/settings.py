"""The settings of `labels/build_vocab.py`, in one frozen dataclass that checks itself."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from common.errors import UserError
from common.flags import comma_separated, setting
from labels.vocabulary import ATTRIBUTE, KINDS, OBJECT
from labels.workspace import join, split

BOTH = "both"
DEFAULT_TAGS = "data/tags"
DEFAULT_K = 10_000


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 2500,10000") from error


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is written; every field is a flag of the same name.

    Raises:
        UserError: a value is out of its range, or two settings exclude each other.
    """

    tags: tuple[str, ...] = setting(
        (DEFAULT_TAGS,),
        "tag folders of runs, or Parquet files of tags; several are joined in this order; "
        f"default {DEFAULT_TAGS}",
        metavar="DIR",
        action="extend",
    )
    out: str = setting(
        "labels/cc12m_obj_attr.parquet",
        "label file, also a URL of fsspec; the vocabulary and the picture are written beside it",
        metavar="FILE",
    )
    k: int | None = setting(
        None, f"number of tags to keep, of each kind; default {DEFAULT_K}", metavar="K"
    )
    k_objects: int | None = setting(None, "number of objects to keep, in place of --k", metavar="K")
    k_attributes: int | None = setting(
        None, "number of attributes to keep, in place of --k", metavar="K"
    )
    ks: tuple[int, ...] = setting(
        (),
        "several K, each with its own label file FILE.kK.parquet, from one pass over the tags",
        metavar="K,K,...",
        nargs=None,
        type=_numbers,
    )
    kinds: str | None = setting(
        None, f"kinds of tags to keep; default {BOTH}", choices=(*KINDS, BOTH)
    )
    min_count: int = setting(1, "leave out tags of fewer captions", metavar="N")
    stop_tags: str | None = setting(None, "file of tags to leave out, one a line", metavar="FILE")
    synonyms: tuple[str, ...] = setting(
        (),
        "count tags as others: a file of `tag<TAB>tag to count it as`, one pair a line; `rules` joins "
        "spellings and rare plurals, `wordnet` tags of one first noun synset (NLTK); comma-separated",
        metavar="FILE,...",
        nargs=None,
        type=comma_separated,
    )
    vocab: str | None = setting(
        None,
        "label with this vocabulary instead of choosing one: a .vocab.parquet, a label file, or a "
        "text list of tags, one a line",
        metavar="FILE",
    )
    page: bool | None = setting(
        None, "write the page to look through the vocabulary, NAME.html; done by default"
    )
    text_encoder: str | None = setting(
        None,
        "also name tags of close meaning on the page: a CLIP's folder, or open_clip's MODEL/WEIGHTS",
        metavar="NAME",
    )
    partial: bool = setting(
        False,
        "accept unfinished runs: use the committed shards, leave out images of the missing ones",
    )
    ray: str | None = setting(
        None,
        "distribute over the Ray cluster at ADDRESS; without ADDRESS, the one at $RAY_ADDRESS, else "
        "a new one on this machine",
        metavar="ADDRESS",
        nargs="?",
        const="",
    )

    def __post_init__(self) -> None:
        sizes = {"--k": self.k, "--k-objects": self.k_objects, "--k-attributes": self.k_attributes}
        for flag, size in [*sizes.items(), *(("--ks", k) for k in self.ks)]:
            if size is not None and size < 1:
                raise UserError(
                    f"{flag} must be at least 1, not {size}: --kinds leaves out a whole kind"
                )
        if self.min_count < 1:
            raise UserError(f"--min-count must be at least 1, not {self.min_count}")
        if self.kinds not in (None, *KINDS, BOTH):
            raise UserError(f"--kinds is {OBJECT}, {ATTRIBUTE} or {BOTH}, not {self.kinds}")
        if not self.out.endswith(".parquet") or split(self.out)[1] == ".parquet":
            raise UserError(f"--out must name a .parquet file, not {self.out}")
        chosen = [flag for flag, size in sizes.items() if size is not None]
        if self.ks and chosen:
            raise UserError(f"--ks and {chosen[0]} exclude each other")
        if (self.kinds == OBJECT and self.k_attributes) or (
            self.kinds == ATTRIBUTE and self.k_objects
        ):
            raise UserError(f"--kinds {self.kinds} excludes the K of the other kind")
        if self.vocab is not None:
            if "://" in self.vocab:
                raise UserError(f"--vocab is a file on this machine, not {self.vocab}: copy it")
            fixed = [*chosen, *["--ks"] * bool(self.ks), *["--min-count"] * (self.min_count > 1)]
            fixed += ["--stop-tags"] * bool(self.stop_tags)
            if fixed:
                raise UserError(f"--vocab fixes the tags: it cannot be combined with {fixed[0]}")
            if self.kinds is not None and self.vocab.endswith(".parquet"):
                raise UserError("--vocab with a .parquet fixes the kinds: leave out --kinds")

    @property
    def chosen_kinds(self) -> tuple[str, ...]:
        return KINDS if self.kinds in (None, BOTH) else (self.kinds,)

    def sizes(self) -> list[dict[str, int]]:
        """kind -> K, for every label file."""
        per_kind = {OBJECT: self.k_objects, ATTRIBUTE: self.k_attributes}
        k = DEFAULT_K if self.k is None else self.k
        if self.ks:
            return [dict.fromkeys(self.chosen_kinds, k) for k in sorted(set(self.ks))]
        return [{kind: per_kind[kind] or k for kind in self.chosen_kinds}]

    @property
    def folder(self) -> str:
        """Where the label files are written; a local path or a URL."""
        return split(self.out)[0]

    def names(self) -> list[str]:
        """Names of the label files. With `ks` each contains its K: `x.k2500.parquet`."""
        name = split(self.out)[1]
        if not self.ks:
            return [name]
        return [f"{name.removesuffix('.parquet')}.k{k}.parquet" for k in sorted(set(self.ks))]

    def outs(self) -> list[str]:
        """The label files, as paths or URLs."""
        return [join(self.folder, name) for name in self.names()]
