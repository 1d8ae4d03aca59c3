"""The paper's Figure 3: the most frequent objects, the most frequent attributes, and the long tail."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import numpy as np
import polars as pl

from labels.vocabulary import ATTRIBUTE, OBJECT, Vocabulary

TOP = 25
_COLOURS = {OBJECT: "#2a6f97", ATTRIBUTE: "#c8553d"}
_PLURALS = {OBJECT: "objects", ATTRIBUTE: "attributes"}
_LONGEST_NAME = 24


def draw(ranked: Mapping[str, pl.DataFrame], captions: int, vocabulary: Vocabulary) -> bytes:
    """Draws the distribution of tags.

    Args:
        ranked: kind -> columns `tag`, `count`, most frequent first; kinds without tags are left out.
        captions: number of captions that were counted.
        vocabulary: its sizes are marked on the long tail.

    Returns:
        the bytes of a PNG file.
    """
    from matplotlib.figure import Figure  # pyplot would keep the figure in global state

    kinds = [kind for kind, table in ranked.items() if len(table)]
    figure = Figure(figsize=(5.2 * (len(kinds) + 1), 6.4), dpi=130, layout="constrained")
    axes = figure.subplots(1, len(kinds) + 1, squeeze=False)[0]
    for ax, kind in zip(axes, kinds, strict=False):
        _bars(ax, ranked[kind], kind, captions)
    _tail(axes[-1], {kind: ranked[kind] for kind in kinds}, vocabulary)
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # it is shown as a box
        figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _bars(ax, table: pl.DataFrame, kind: str, captions: int) -> None:
    top = table.head(TOP)
    shares = 100 * top["count"].to_numpy() / max(captions, 1)
    ax.barh(np.arange(len(top)), shares, color=_COLOURS[kind], height=0.72)
    names = [_short(tag) for tag in top["tag"]]
    ax.set_yticks(np.arange(len(top)), names, parse_math=False)  # a tag may contain a dollar sign
    ax.set_ylim(TOP - 0.4, -0.6)
    ax.set_xlabel("% of captions")
    ax.set_title(f"Most frequent {_PLURALS[kind]}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _tail(ax, ranked: Mapping[str, pl.DataFrame], vocabulary: Vocabulary) -> None:
    for kind, table in ranked.items():
        counts = table["count"].to_numpy()
        ranks = np.arange(1, len(counts) + 1)
        # At most 2,000 ranks, evenly spaced on the log axis: all of them would look the same.
        shown = np.unique(np.geomspace(1, len(counts), 2000).round().astype(int)) - 1
        size = len(vocabulary.ids(kind))
        share = 100 * counts[:size].sum() / counts.sum()
        label = f"{len(counts):,} {_PLURALS[kind]}"
        ax.plot(ranks[shown], counts[shown], color=_COLOURS[kind], label=label, linewidth=1.8)
        if 0 < size <= len(counts):
            ax.plot(
                [size], [counts[size - 1]], "o", color=_COLOURS[kind], markersize=6,
                label=f"the first {size:,}: {share:.1f}% of all mentions",
            )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("rank of the tag")
    ax.set_ylabel("captions with the tag")
    ax.set_title("The long tail")
    ax.grid(True, which="major", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="lower left", fontsize=9)


def _short(tag: str) -> str:
    tag = " ".join(tag.split())
    return tag if len(tag) <= _LONGEST_NAME else tag[: _LONGEST_NAME - 1] + "…"
