"""The demo's report: one HTML file with the commands, the scores and their intervals, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from eval.inference.settings import Inference
from eval.parser_scores.answers import read_tags
from eval.parser_scores.gold import GoldCaption, read_gold_files
from eval.parser_scores.page import marked
from eval.parser_scores.scoreboard import Judged
from eval.parser_scores.tag_scores import Score
from labels.label_file import read_footer
from workflows.chain import Chain, Stage
from workflows.intervals import Interval, gain_interval, mean_interval, paired_interval
from workflows.report_pictures import (
    Shown,
    loss_curves,
    png_url,
    result_sheet,
    segmentations,
    similarity_maps,
    training_pictures,
)
from workflows.scoring import (
    REFERRING,
    SEGMENTATION,
    THINGS,
    UNTRAINED,
    dense,
    image_counts,
    referring,
    segmentation,
)

SCENES, MAPS, SEGMENTED, SHEET = 8, 5, 8, 6  # how many of each are shown


@dataclass(frozen=True)
class Trained:
    """Trainings that differ in their seed alone.

    Attributes:
        title: for people.
        labels: their label file.
        runs: their folders.
    """

    title: str
    labels: Path
    runs: Sequence[str]


@dataclass(frozen=True)
class Row:
    """A model's figures, in percent.

    Attributes:
        title: for people.
        miou: over background and things; the mean over seeds.
        gain: over plain CLIP; None for an untrained model.
        gain_by_training: over CLIP Surgery, from which training starts; None for an untrained model.
        things: mIoU over the things where only their pixels count; the mean over seeds.
        referring: mean IoU of expressions; the mean over seeds.
        classes: IoU by class name, the mean over seeds.
        seeds: mIoU and `referring` of each seed, as pairs.
    """

    title: str
    miou: Interval
    gain: Interval | None
    gain_by_training: Interval | None
    things: Interval
    referring: Interval
    classes: dict[str, float]
    seeds: tuple[tuple[float, float], ...] = ()


def report(
    chain: Chain,
    parsers: Sequence[str],
    groups: Sequence[Trained],
    control: Trained,
    checked: str,
) -> tuple[str, Image.Image]:
    """The page, and its segmentations as one picture.

    Args:
        chain: its world, tags and runs exist; missing scores are made here.
        parsers: whose tags to compare; the first one's were trained on.
        groups: trainings on tags: of objects, and of objects and attributes.
        control: the same training without tags, with the same seeds.
        checked: what the check of the last group's tags did, as HTML.
    """
    rows = score_rows(chain, [*groups, control])
    models = _models(chain, groups)
    [gold] = read_gold_files([chain.world / "gold.jsonl"])
    judged = [
        Judged.of(*read_tags(str(chain.tags(parser)), [gold], parser), gold.captions)
        for parser in parsers
    ]
    labels = groups[-1].labels
    loader = PackageLoader("workflows", ".")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"interval": Interval.shown, "share": _share}
    page = environment.get_template("report.html.jinja").render(
        date=date.today().isoformat(),
        rows=rows,
        verdict=verdict(rows),
        highest=max(row.miou.value for row in rows),
        sizes=chain.sizes,
        seeds=len(groups[0].runs),
        commands=_commands(chain),
        minutes=sum(stage.seconds for stage in chain.stages.values()) / 60,
        parsers=judged,
        scenes=_scenes(chain, gold.captions[:SCENES], judged),
        checked=Markup(checked),
        tags=len(read_footer(labels)[2]),
        distribution=png_url(labels.with_suffix(".png").read_bytes()),
        losses=loss_curves([(group.title, group.runs[0]) for group in groups]),
        titles=[one.title for one in models],
        maps=similarity_maps(chain, models, MAPS),
        segmented=segmentations(chain, models, SEGMENTED),
    )
    return page, result_sheet(chain, models, SHEET)


def score_rows(chain: Chain, groups: Sequence[Trained]) -> list[Row]:
    """Plain CLIP, CLIP Surgery, and each group of trainings."""
    models = [(title, [run]) for run, title in UNTRAINED.items()]
    models += [(group.title, list(group.runs)) for group in groups]
    rows, baselines = [], {}
    for title, runs in models:
        results = [segmentation(chain, run) for run in runs]
        counts = np.stack([image_counts(result) for result in results])  # (runs, N, C, C)
        trained = runs[0] not in UNTRAINED
        if not trained:
            baselines[runs[0]] = counts[0]
        things = [segmentation(chain, run, benchmark=THINGS) for run in runs]
        segmented = [100 * result["miou"] for result in results]
        referred = [100 * referring(chain, run)["mean_iou"] for run in runs]
        rows.append(
            Row(
                title,
                mean_interval(segmented),
                gain_interval(baselines["clip"], counts) if trained else None,
                gain_interval(baselines["surgery"], counts) if trained else None,
                mean_interval([100 * result["miou"] for result in things]),
                mean_interval(referred),
                _iou(results),
                tuple(zip(segmented, referred, strict=True)),
            )
        )
    return rows


def verdict(rows: Sequence[Row]) -> list[str]:
    """Sentences on the gain by training, by tags, and by attributes, as the intervals permit.

    Args:
        rows: as `score_rows` gives them: the untrained, then objects, both, and the training without
            tags.
    """
    objects, both, control = rows[-3:]
    sentences = [
        f"{row.title} {_said(row.gain, UNTRAINED['clip'])}, and "
        f"{_said(row.gain_by_training, UNTRAINED['surgery'])}, from which training starts."
        for row in (objects, both)
    ]
    if len(both.seeds) > 1:
        by_tags = _difference(both, control, 0)
        sentences.append(
            f"The image-text loss alone, without tags, makes {control.gain_by_training.shown('+')} "
            f"of the gain over CLIP Surgery; tags {_effect(by_tags)} ({by_tags.shown('+')} points)."
        )
        by_attributes = _difference(both, objects, 1)
        sentences.append(
            f"For expressions such as “large red ball”, tags of attributes {_effect(by_attributes)} here "
            f"({by_attributes.shown('+')} points of mean IoU)."
        )
    return sentences


def _difference(one: Row, other: Row, figure: int) -> Interval:
    """Of `Row.seeds`' first or second figure, paired by seed."""
    return paired_interval(
        [pair[figure] for pair in one.seeds], [pair[figure] for pair in other.seeds]
    )


def _effect(gain: Interval) -> str:
    return "help" if gain.above_zero else "harm" if gain.below_zero else "make no clear difference"


def _said(gain: Interval, baseline: str) -> str:
    points = f"{gain.value:+.1f} points of mIoU, 95% interval {gain.low:+.1f} to {gain.high:+.1f}"
    if gain.above_zero:
        return f"segments better than {baseline} ({points})"
    if gain.below_zero:
        return f"segments worse than {baseline} ({points})"
    return f"shows no clear difference from {baseline} here ({points})"


def _commands(chain: Chain) -> list[tuple[str, float, int]]:
    """(command, seconds, how many) of the stages; those that differ only in the run are counted as one."""
    groups: dict[str, list[Stage]] = {}
    for name, stage in chain.stages.items():
        kind, what = name.split(" ")[0], name.split("-seed")[0]
        groups.setdefault(
            kind if kind in ("calibration", SEGMENTATION, THINGS, REFERRING) else what, []
        ).append(stage)
    return [
        (group[0].command, sum(stage.seconds for stage in group), len(group))
        for group in groups.values()
    ]


def _iou(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    names = [one["name"] for one in results[0]["classes"]]
    each = np.array([[one["iou"] for one in result["classes"]] for result in results], float)
    return dict(zip(names, 100 * each.mean(0), strict=True))


def _scenes(
    chain: Chain, gold: Sequence[GoldCaption], judged: Sequence[Judged]
) -> list[dict[str, Any]]:
    """The first captions with their pictures and each parser's tags, right, wrong and missed."""
    scenes = []
    pictures = training_pictures(chain, len(gold))
    for place, (one, picture) in enumerate(zip(gold, pictures, strict=True)):
        sides = []
        for each in judged:
            tags = each.comparisons[place]
            sides.append((each.answers.name, marked(tags, "objects") + marked(tags, "pairs")))
        scenes.append({"picture": picture, "caption": one.caption, "sides": sides})
    return scenes


def _models(chain: Chain, groups: Sequence[Trained]) -> list[Shown]:
    runs = [
        ("CLIP", "clip"),
        ("CLIP Surgery", "surgery"),
        *((group.title, group.runs[0]) for group in groups),
    ]
    return [
        Shown(title, dense(run), Inference(**segmentation(chain, run)["settings"]["inference"]))
        for title, run in runs
    ]


def _share(one: Score) -> str:
    return "–" if np.isnan(one.value) else f"{100 * one.value:.1f}"
