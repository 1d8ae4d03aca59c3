"""The ablations: what each varies, what the paper claims, and what is measured in the small world."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from eval.inference.settings import SIGMOID, Inference
from eval.paper import paper_rows, shown
from labels.settings import BOTH
from labels.vocabulary import OBJECT
from parsing.llm import student
from training.dense import BASELINES
from training.losses import ASYMMETRIC, FOCAL, SOFTMAX, WEIGHTED
from training.settings import CLASS
from training.surgery import CLEARCLIP, MASKCLIP, NACLIP, NONE, SCLIP, SURGERY
from workflows.chain import GOLD, LLM, TAG2TEXT, Chain, Recipe
from workflows.intervals import mean_interval, paired_interval
from workflows.scoring import UNTRAINED, WHOLE, segmentation
from workflows.scoring import referring as expressions

KS = (5, 10, 20, 40, 200)
PARSERS = {
    LLM: "student (LLM)",
    "nltk": "NLTK",
    "spacy": "spaCy",
    TAG2TEXT: "Tag2Text",
    GOLD: "gold tags",
}
PATHS = {
    SURGERY: "CLIP Surgery",
    NACLIP: "NACLIP",
    CLEARCLIP: "ClearCLIP",
    SCLIP: "SCLIP",
    MASKCLIP: "MaskCLIP",
    NONE: "the unchanged ViT",
}
HEADINGS = {"referring": "Referring: ", "paths": ""}  # of tables without a number
Changes = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Line:
    """One setting's figures, in percent, one for each seed.

    Attributes:
        name: of the setting.
        values: mIoU, or mean IoU of expressions.
        fixed: nothing is trained, so all values are the same.
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
        lines: the others are compared with the first.
        claims: sentences on what the paper claims and what was measured.
        note: what differs from the paper.
    """

    number: str
    title: str
    unit: str
    lines: list[Line]
    claims: list[str] = field(default_factory=list)
    note: str = ""


def number_of_tags(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 3."""
    lines = [_line(chain, f"{k} of each kind", seeds, changes, k=k) for k in (KS[-1], *KS[:-1])]
    return Table(
        "3", "Number of tags", "mIoU", lines,
        [
            _claim("More tags help up to a point, as too few leave out things to segment",
                   lines[0], lines[1]),
        ],
        "The paper varies it from 2,500 to 100,000 of each kind; this world's captions have about 150 "
        "in all.",
    )  # fmt: skip


def parser(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 4."""
    lines = {
        name: _line(chain, title, seeds, changes, parser=name) for name, title in PARSERS.items()
    }
    return Table(
        "4", "Parser", "mIoU", list(lines.values()),
        [
            _claim("An LLM's tags teach more than NLTK's", lines[LLM], lines["nltk"]),
            _claim("An LLM's tags teach more than a fixed list's (Tag2Text)", lines[LLM],
                   lines[TAG2TEXT]),
            _said("Gold tags less the LLM's, which the paper could not compare", lines[GOLD],
                  lines[LLM]),
        ],
        f"The LLM is {student.NAME}, a student of SmolLM2-135M, not the paper's Vicuna-33B; spaCy and "
        "gold tags are not in the paper.",
    )  # fmt: skip


def pooling(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """What the paper's Table 5 is about, with the class token in DiHT's place."""
    lines = [
        _line(chain, "mean of the patches", seeds, changes),
        _line(chain, "class token", seeds, (*changes, ("pool", CLASS))),
    ]
    return Table(
        "5", "Pooled patches or the class token", "mIoU", lines,
        [_claim("Classifying pooled patches beats classifying the class token", *lines)],
        "Ours trains both on the same tags. The paper's Table 5 compares TagAlign with DiHT, another "
        "model, which classifies tags on the image's embedding and was trained on LAION-2B.",
    )  # fmt: skip


def loss(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 6."""
    lines = [_line(chain, "balanced softmax, Eq. 4", seeds, changes)]
    claims = []
    for name, title in (
        (SOFTMAX, "softmax, Eq. 2"),
        (WEIGHTED, "weighted softmax"),
        (FOCAL, "focal"),
        (ASYMMETRIC, "asymmetric"),
    ):
        lines.append(_line(chain, title, seeds, (*changes, ("tag_loss", name))))
        claims.append(_claim(f"Balanced softmax beats {title}", lines[0], lines[-1]))
    for weight, title, claim in (
        ("tag_weight", "image-text loss alone, no tags", "Tags add to the image-text loss"),
        ("text_weight", "balanced softmax alone", "The image-text loss adds to tags"),
    ):
        lines.append(_line(chain, title, seeds, (*changes, (weight, 0.0))))
        claims.append(_claim(claim, lines[0], lines[-1]))
    return Table("6", "Loss", "mIoU", lines, claims)


def tricks(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """Table 9."""
    own_map = "without CLIP's own map (Eq. 7, weight 0)"
    variants: dict[str, Inference] = {
        "all as by default": WHOLE,
        own_map: replace(WHOLE, clip_weight=0.0),
        "sigmoid in place of softmax (Eq. 8)": replace(WHOLE, probability=SIGMOID),
        "80 ImageNet templates": replace(WHOLE, templates="imagenet"),
        "twice the size": replace(WHOLE, size=128),
        "twice the size, sliding windows": replace(WHOLE, size=128, window=64, stride=32),
        "with PAMR": replace(WHOLE, pamr=True),
    }
    runs = [str(chain.run(Recipe(changes=changes, seed=seed))) for seed in seeds]
    lines = []
    for place, (title, inference) in enumerate(variants.items()):
        variant = f"-trick{place}" if place else ""
        results = [segmentation(chain, run, inference, variant) for run in runs]
        lines.append(Line(title, [100 * result["miou"] for result in results]))
    by_name = {line.name: line for line in lines}
    untrained = _untrained(seeds, lambda run: segmentation(chain, run)["miou"])
    return Table(
        "9", "Tricks of inference", "mIoU", [*lines, *untrained],
        [
            _claim("Blending in CLIP's own map helps (Eq. 7)", lines[0], by_name[own_map]),
            _claim("Post-processing (PAMR) helps", by_name["with PAMR"], lines[0]),
            *_beats_untrained(lines[0], untrained),
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
    untrained = _untrained(seeds, lambda run: expressions(chain, run)["mean_iou"])
    return Table(
        "referring", "Attributes for attribute-specified objects", "mean IoU of expressions",
        [*lines, *untrained],
        [
            _claim("Attributes help to find an object by its attributes", *lines),
            *_beats_untrained(lines[0], untrained),
        ],
    )  # fmt: skip


def image_paths(chain: Chain, seeds: Sequence[int], changes: Changes) -> Table:
    """What patch tokens a projector is best trained on; the paper has CLIP Surgery's alone."""
    trained = {
        mode: _line(chain, f"{title}, trained", seeds, (*changes, ("path", mode)), parser=GOLD)
        for mode, title in PATHS.items()
    }
    untrained = {
        mode: Line(f"{title}, untrained", [100 * segmentation(chain, _baseline(mode))["miou"]] * len(seeds),
                   fixed=True)
        for mode, title in PATHS.items()
    }  # fmt: skip
    claims = [
        _claim(f"A projector trained on {PATHS[mode]}'s tokens beats one trained on CLIP Surgery's",
               trained[mode], trained[SURGERY])
        for mode in (NACLIP, CLEARCLIP, SCLIP, MASKCLIP)
    ]  # fmt: skip
    claims += [
        _claim(f"Training helps on {title}'s tokens", trained[mode], untrained[mode])
        for mode, title in PATHS.items()
    ]
    return Table(
        "paths", "Image paths", "mIoU", [*trained.values(), *untrained.values()], claims,
        "Trained with gold tags, so that no parser's mistakes matter. The paper trains on CLIP Surgery's "
        "tokens alone; the other paths change the last block only, see `training/surgery.py`.",
    )  # fmt: skip


def _baseline(mode: str) -> str:
    """The name of an image path's untrained baseline."""
    return next(name for name, path in BASELINES.items() if path == mode)


def _untrained(seeds: Sequence[int], figure: Callable[[str], float]) -> list[Line]:
    """Plain CLIP and CLIP Surgery, with the same figure for every seed."""
    return [
        Line(title, [100 * figure(run)] * len(seeds), fixed=True)
        for run, title in UNTRAINED.items()
    ]


def _beats_untrained(trained: Line, untrained: Sequence[Line]) -> list[str]:
    return [_claim(f"Multi-tag classification beats {one.name}", trained, one) for one in untrained]


PLANS: dict[str, Callable[[Chain, Sequence[int], Changes], Table]] = {
    "3": number_of_tags,
    "4": parser,
    "5": pooling,
    "6": loss,
    "9": tricks,
    "referring": referring,
    "paths": image_paths,
}


def document(tables: Sequence[Table], chain: Chain, command: str, seeds: Sequence[int]) -> str:
    """The Markdown file."""
    sizes = chain.sizes
    spent = sum(stage.seconds for stage in chain.stages.values()) / 60
    parts = [
        "# The paper's ablations in the small world",
        f"Made on {date.today().isoformat()} by `{command}` on {len(os.sched_getaffinity(0))} CPU "
        f"cores in {spent:,.0f} minutes.",
        f"World {sizes.world}: {sizes.train:,} training scenes, {sizes.held_out:,} held-out scenes, "
        f"trainings with the seeds {', '.join(map(str, seeds))}. Figures are means over seeds with Student's "
        "95% intervals; differences are paired by seed. World, scenes and the frozen CLIP are the same "
        "throughout: intervals show how trainings vary, not how worlds vary. A claim *holds* or *fails* where "
        "the interval of its difference excludes 0. Scale and threshold of each model are chosen by one "
        "rule on other scenes. Epochs and learning rate were chosen once, among four settings, in world 0 "
        "with spaCy's tags.",
        *(_section(table) for table in tables),
    ]
    return "\n\n".join(parts) + "\n"


def _section(table: Table) -> str:
    base = table.lines[0]
    lines = [
        f"## {HEADINGS.get(table.number, f'Table {table.number}: ')}{table.title}",
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
    lines += [f"| *{name}* | {text} | |" for name, text in _papers(table.number)]
    return "\n".join(
        [*lines, "", *([table.note, ""] if table.note else []), *(f"- {c}" for c in table.claims)]
    )


def _papers(number: str) -> list[tuple[str, str]]:
    """The paper's rows of this table; none where it has no such table."""
    if number == "paths":
        return []
    return [
        (row.label, ", ".join(f"{name} {shown(value)}" for name, value in row.values.items()))
        for row in paper_rows(number)
    ]


def _line(chain: Chain, name: str, seeds: Sequence[int], changes: Changes, **recipe: Any) -> Line:
    """mIoU of a training with each seed; `recipe` are fields of `Recipe`."""
    runs = [chain.run(Recipe(changes=changes, seed=seed, **recipe)) for seed in seeds]
    return Line(name, [100 * segmentation(chain, str(run))["miou"] for run in runs])


def _claim(claim: str, better: Line, worse: Line) -> str:
    difference = paired_interval(better.values, worse.values)
    if difference.above_zero:
        verdict = "holds here"
    elif difference.below_zero:
        verdict = "fails here"
    else:
        verdict = "no clear difference here"
    return f"{claim}: **{verdict}** ({difference.shown('+', 2)} points)."


def _said(what: str, one: Line, other: Line) -> str:
    return f"{what}: {paired_interval(one.values, other.values).shown('+', 2)} points."
