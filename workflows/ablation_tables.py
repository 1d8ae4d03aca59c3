"""The ablations one by one: what is varied, what the paper claims of it, and what came out here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from eval.paper import paper_rows
from eval.segmenter import SIGMOID, Inference
from labels.build import BOTH
from labels.vocabulary import OBJECT
from training.losses import ASYMMETRIC, BALANCED, FOCAL, SOFTMAX, WEIGHTED
from training.settings import CLASS, PATCHES
from workflows.chain import GOLD, PARSERS, TAG2TEXT, Chain, Recipe
from workflows.intervals import mean_interval, paired_interval
from workflows.scoring import UNTRAINED, WHOLE, segmentation
from workflows.scoring import referring as expressions

KS = (5, 10, 20, 40, 200)
Changes = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Line:
    """One setting's figures, in percent, one for each seed.

    Attributes:
        name: of the setting.
        values: mIoU; or mean IoU of expressions.
        fixed: it has nothing to train, so that all values are the same.
    """

    name: str
    values: list[float]
    fixed: bool = False


@dataclass(frozen=True)
class Table:
    """An ablation.

    Attributes:
        number: the paper's table.
        title: what is varied.
        unit: what the figures are.
        lines: of which the first is what the others are compared with.
        claims: plain sentences on what the paper claims and what came out.
        note: what is different from the paper's.
    """

    number: str
    title: str
    unit: str
    lines: list[Line]
    claims: list[str] = field(default_factory=list)
    note: str = ""


def number_of_tags(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 3."""
    lines = [
        _line(chain, f"{k} of each kind", [Recipe(k=k, changes=changes, seed=s) for s in seeds])
        for k in (KS[-1], *KS[:-1])
    ]
    few = lines[1]
    return Table(
        "3", "Number of tags", "mIoU", lines,
        [
            _claim("More tags help up to a point, as too few leave out what is to be found",
                   lines[0], few),
        ],
        "The paper sweeps 2,500 to 100,000 of each kind; this world's captions have about "
        "150 in all.",
    )  # fmt: skip


def parser(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 4."""
    lines = [
        _line(chain, name, [Recipe(name, changes=changes, seed=s) for s in seeds])
        for name in PARSERS
    ]
    by_name = {line.name: line for line in lines}
    return Table(
        "4", "Parser", "mIoU", lines,
        [
            _claim("An LLM's tags teach more than NLTK's", by_name["llm"], by_name["nltk"]),
            _claim("An LLM's tags teach more than a fixed list's (Tag2Text)", by_name["llm"],
                   by_name[TAG2TEXT]),
            _said("Gold tags against the LLM's, which the paper could not have",
                  by_name[GOLD], by_name["llm"]),
        ],
        "The LLM is SmolLM2-135M, not the paper's Vicuna-33B; spaCy and gold tags are not in the paper.",
    )  # fmt: skip


def pooling(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 5."""
    titles = {PATCHES: "mean of the patches", CLASS: "class token"}
    lines = []
    for pool, title in titles.items():
        more = () if pool == PATCHES else (("pool", pool),)
        recipes = [Recipe(changes=(*changes, *more), seed=s) for s in seeds]
        lines.append(_line(chain, title, recipes))
    return Table(
        "5", "What is classified", "mIoU", lines,
        [_claim("Classifying pooled patches beats classifying the class token", *lines)],
    )  # fmt: skip


def loss(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 6."""
    titles = {
        BALANCED: "balanced softmax, Eq. 4",
        SOFTMAX: "softmax, Eq. 2",
        WEIGHTED: "weighted softmax",
        FOCAL: "focal",
        ASYMMETRIC: "asymmetric",
    }
    lines = []
    for name, title in titles.items():
        more = () if name == BALANCED else (("tag_loss", name),)
        recipes = [Recipe(changes=(*changes, *more), seed=s) for s in seeds]
        lines.append(_line(chain, title, recipes))
    claims = [_claim(f"Balanced softmax beats {one.name}", lines[0], one) for one in lines[1:]]
    for weight, title, claim in (
        (
            "tag_weight",
            "image-text loss alone, no tags",
            "Tags add to what the image-text loss teaches",
        ),
        ("text_weight", "balanced softmax alone", "The image-text loss adds to what tags teach"),
    ):
        alone = [Recipe(changes=(*changes, (weight, 0.0)), seed=s) for s in seeds]
        lines.append(_line(chain, title, alone))
        claims.append(_claim(f"{claim} alone", lines[0], lines[-1]))
    return Table("6", "Loss", "mIoU", lines, claims)


def tricks(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 9."""
    variants: dict[str, Inference] = {
        "all as by default": WHOLE,
        "without CLIP's own map (Eq. 7, weight 0)": replace(WHOLE, clip_weight=0.0),
        "sigmoid in place of softmax (Eq. 8)": replace(WHOLE, probability=SIGMOID),
        "80 ImageNet templates": replace(WHOLE, templates="imagenet"),
        "twice the size": Inference(size=128, window=0),
        "twice the size, sliding windows": Inference(size=128, window=64, stride=32),
        "with PAMR": replace(WHOLE, pamr=True),
    }
    runs = [str(chain.run(Recipe(changes=changes, seed=seed))) for seed in seeds]
    lines = []
    for place, (title, inference) in enumerate(variants.items()):
        variant = f"-trick{place}" if place else ""
        results = [segmentation(chain, run, inference, variant) for run in runs]
        lines.append(Line(title, [100 * result["miou"] for result in results]))
    for run, title in UNTRAINED.items():
        figure = 100 * segmentation(chain, run)["miou"]
        lines.append(Line(title, [figure] * len(seeds), fixed=True))
    by_name = {line.name: line for line in lines}
    return Table(
        "9", "Tricks of inference", "mIoU", lines,
        [
            _claim("Blending in CLIP's own map helps (Eq. 7)", lines[0],
                   by_name["without CLIP's own map (Eq. 7, weight 0)"]),
            _claim("Post-processing (PAMR) helps", by_name["with PAMR"], lines[0]),
            *(_claim(f"Multi-tag classification beats {title}", lines[0], by_name[title])
              for title in UNTRAINED.values()),
        ],
        "Every row has its own scale and threshold, chosen by the same rule on other scenes.",
    )  # fmt: skip


def referring(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """The referring table."""
    lines = []
    for kinds, title in ((BOTH, "objects + attributes"), (OBJECT, "objects")):
        runs = [chain.run(Recipe(kinds=kinds, changes=changes, seed=seed)) for seed in seeds]
        figures = [100 * expressions(chain, str(run))["mean_iou"] for run in runs]
        lines.append(Line(title, figures))
    for run, title in UNTRAINED.items():
        figure = 100 * expressions(chain, run)["mean_iou"]
        lines.append(Line(title, [figure] * len(seeds), fixed=True))
    return Table(
        "referring", "Attributes for attribute-specified objects", "mean IoU of expressions", lines,
        [
            _claim("Attributes help to find an object by its attributes", lines[0], lines[1]),
            *(_claim(f"Multi-tag classification beats {line.name}", lines[0], line)
              for line in lines[2:]),
        ],
    )  # fmt: skip


PLANS: dict[str, Callable[[Chain, Sequence[int], Changes], Table]] = {
    "3": number_of_tags,
    "4": parser,
    "5": pooling,
    "6": loss,
    "9": tricks,
    "referring": referring,
}


def document(tables: Sequence[Table], chain: Chain, command: str, seeds: Sequence[int]) -> str:
    """The Markdown file."""
    sizes = chain.sizes
    spent = sum(stage.seconds for stage in chain.stages.values()) / 60
    parts = [
        "# The paper's ablations in the small world",
        f"Made on {date.today().isoformat()} by `{command}` on {len(os.sched_getaffinity(0))} CPU "
        f"cores; {spent:,.0f} minutes of work.",
        f"World {sizes.world}: {sizes.train:,} training scenes, {sizes.held_out:,} held-out scenes, trainings with the seeds "
        f"{', '.join(map(str, seeds))}. Means over seeds with Student's 95% intervals; differences are "
        "paired by seed. The world, its scenes and the frozen CLIP are the same throughout, so that "
        "intervals say how a training varies and not how worlds would. A claim *holds* or *fails* "
        "where the interval of its difference leaves out 0. Scale and threshold of each model are "
        "chosen by one rule on other scenes. Epochs and learning rate were chosen once, among four settings, "
        "in world 0 with spaCy's tags.",
        *(_section(table) for table in tables),
    ]
    return "\n\n".join(parts) + "\n"


def _section(table: Table) -> str:
    base = table.lines[0]
    lines = [
        f"## {'Referring' if table.number == 'referring' else f'Table {table.number}'}: {table.title}",
        "",
        f"| | {table.unit} | less the first row |",
        "|---|---|---|",
    ]
    for one in table.lines:
        difference = ""
        if one is not base:
            difference = paired_interval(one.values, base.values).shown("+")
        figure = f"{one.values[0]:.1f}" if one.fixed else mean_interval(one.values).shown()
        lines.append(f"| {one.name} | {figure} | {difference} |")
    lines += [f"| *the paper's: {name}* | {text} | |" for name, text in _papers(table.number)]
    return "\n".join(
        [*lines, "", *([table.note, ""] if table.note else []), *(f"- {c}" for c in table.claims)]
    )


def _papers(number: str) -> list[tuple[str, str]]:
    """The paper's rows of this table, as far as the data file has any."""
    return [
        (row.method, ", ".join(f"{name} {value}" for name, value in row.values.items()))
        for row in paper_rows(number)
    ]


def _line(chain: Chain, name: str, recipes: Sequence[Recipe]) -> Line:
    results = [segmentation(chain, str(chain.run(recipe))) for recipe in recipes]
    return Line(name, [100 * result["miou"] for result in results])


def _claim(claim: str, better: Line, worse: Line) -> str:
    difference = paired_interval(better.values, worse.values)
    if difference.above_zero:
        verdict = "holds here"
    elif difference.below_zero:
        verdict = "fails here"
    else:
        verdict = "can't be told apart here"
    return f"{claim}: **{verdict}** ({difference.shown('+', 2)} points)."


def _said(what: str, one: Line, other: Line) -> str:
    return f"{what}: {paired_interval(one.values, other.values).shown('+', 2)} points."
