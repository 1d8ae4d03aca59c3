"""A small world with mentioned but absent things: its tags, labels, checks and trainings, as files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from eval.parser_scores.answers import read_tags
from eval.parser_scores.gold import read_gold_files
from labels.label_file import LABELS, LabelWriter
from labels.reader import Labels
from labels.vocabulary import ATTRIBUTE, OBJECT, Vocabulary
from parsing.baselines.nltk_parser import NltkConfig
from parsing.baselines.spacy_parser import SpacyConfig
from parsing.baselines.tag2text_parser import Tag2TextConfig
from parsing.tags import Parsed
from training.runs import PROJECTOR
from training.settings import Settings as TrainSettings
from training.tag_check.check import Checked, check_tags
from training.tag_check.settings import Settings as CheckSettings
from training.trainer import train
from workflows.chain import CLIP, TAG_LIST, TRAINING, Chain, fast_precision
from workflows.scoring import referring, segmentation
from workflows.shapes.captions import Manner
from workflows.shapes.dataset import Settings as WorldSettings
from workflows.shapes.dataset import samples, write_world
from workflows.shapes.truth import Shown, shown
from workflows.sizes import Sizes
from workflows.tag_check_settings import LLM, SAID, Settings

K = 200  # tags of each kind
CONFIGS = {
    "nltk": NltkConfig,
    "spacy": SpacyConfig,
    "tag2text": lambda: Tag2TextConfig(tag_list=str(TAG_LIST)),
}
UNCHECKED, CHECKED, SOFT = "unchecked", "checked", "soft"


@dataclass(frozen=True)
class Quality:
    """Of the tags of one kind against what scenes show; shares.

    Attributes:
        precision: of the tags, those that the scene shows.
        recall: of the tags that the caption says and the scene shows, those that are there.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


@dataclass(frozen=True)
class Scores:
    """Quality of objects and of (attribute, object) pairs."""

    objects: Quality
    pairs: Quality


class CheckedWorld:
    """Everything in one folder; what is there is not made again."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.folder = Path(settings.out)
        sizes = Sizes(settings.train, settings.held_out, settings.tuning, settings.world)
        self.chain = Chain(self.folder, sizes)
        manner = Manner(absent=settings.absent)
        self.samples = list(samples("train", settings.train, settings.world, manner))
        self.shown: list[Shown] = [shown(one.scene) for one in self.samples]

    def make(self) -> None:
        """Writes the pictures and the benchmarks."""
        settings = self.settings
        write_world(
            WorldSettings(
                str(self.chain.world), settings.train, settings.held_out, settings.world,
                absent=settings.absent,
            )
        )  # fmt: skip
        if settings.seeds:
            self.chain.make_world()  # the world is there: only the scenes for thresholds are made

    def tags(self, parser: str) -> list[Parsed]:
        """The tags of each caption, those of the parsers from a file once they were made."""
        if parser == SAID:
            return [
                Parsed(
                    list(dict.fromkeys((*c.objects, *c.absent_objects))),
                    list(dict.fromkeys((*c.attributes, *c.absent_attributes))),
                )
                for c in (one.caption for one in self.samples)
            ]
        path = self.folder / f"tags-{parser}.json"
        if not path.exists():
            parsed = self._parsed(parser)
            path.write_text(json.dumps([[one.objects, one.attributes] for one in parsed]), "utf-8")
        return [
            Parsed(objects, [tuple(pair) for pair in pairs])
            for objects, pairs in json.loads(path.read_text("utf-8"))
        ]

    def _parsed(self, parser: str) -> list[Parsed]:
        if parser == LLM:  # by `parsing/run.py`, whose rows are found by their captions
            tags = self.chain.tags(LLM)
            [answers] = read_tags(str(tags), read_gold_files([self.chain.world / "gold.jsonl"]))
            return answers.parsed
        config = CONFIGS[parser]()
        config.check()
        return config.build().parse([one.caption.text for one in self.samples])

    def labels(self, parser: str) -> Path:
        """The label file of a parser's tags: the `K` most frequent objects and attributes."""
        path = self.folder / f"labels-{parser}.parquet"
        if path.exists():
            return path
        tags = [
            {OBJECT: set(one.objects), ATTRIBUTE: {a for a, _ in one.attributes}}
            for one in self.tags(parser)
        ]
        names, kinds, counts = [], [], []
        for kind in (OBJECT, ATTRIBUTE):
            found = Counter(tag for one in tags for tag in one[kind])
            for tag, count in sorted(found.items(), key=lambda one: (-one[1], one[0]))[:K]:
                names.append(tag)
                kinds.append(kind)
                counts.append(count)
        ids = {key: i for i, key in enumerate(zip(kinds, names, strict=True))}
        rows = [
            {
                "key": one.key,
                "caption": one.caption.text,
                "tag_ids": sorted(
                    ids[kind, tag]
                    for kind in (OBJECT, ATTRIBUTE)
                    for tag in found[kind]
                    if (kind, tag) in ids
                ),
            }
            for one, found in zip(self.samples, tags, strict=True)
        ]
        vocabulary = Vocabulary(names, kinds, np.array(counts), len(rows))
        with LabelWriter(path, vocabulary) as writer:
            writer.write(pa.Table.from_pylist(rows, schema=LABELS))
        return path

    def check_settings(self, parser: str, **changes: Any) -> CheckSettings:
        values = {
            "labels": str(self.labels(parser)),
            "images": f"{self.chain.world}/train",
            "out": str(self.folder / f"{CHECKED}-{parser}.parquet"),
            "cache": str(self.folder / "cache"),
            "model": str(CLIP),
            "weights": None,
            "depth": TRAINING["depth"],
            "evidence": self.settings.evidence,
            "pool": self.settings.pool,
            "attributes": self.settings.attributes,
            "keep": self.settings.keep,
            "chunk": 1024,
            "workers": 0,
        }
        return CheckSettings(**values | changes)

    def check(self, parser: str, **changes: Any) -> Checked:
        """Checks a parser's tags; the measuring is done once."""
        checked = check_tags(self.check_settings(parser, **changes))
        assert checked is not None  # a single process is the first rank
        return checked

    def scores(self, parser: str) -> tuple[Scores, Scores]:
        """Of a parser's tags before and after the check."""
        labels = self.labels(parser)
        out = Path(self.check_settings(parser).out)
        if not out.exists():
            self.check(parser)
        return self.judge(parser, labels), self.judge(parser, out)

    def judge(self, parser: str, path: Path) -> Scores:
        """Of the tags in a label file. A pair is there where its attribute and its object are."""
        labels = Labels(path)
        objects, pairs = Counter(), Counter()
        names, kinds = labels.vocabulary.tags, labels.vocabulary.kinds
        positions = labels.positions([one.key for one in self.samples])
        for sample, truth, parsed, row in zip(
            self.samples, self.shown, self.tags(parser), positions, strict=True
        ):
            there = {(kinds[i], names[i]) for i in labels.row(int(row))}
            own = {tag for kind, tag in there if kind == OBJECT}
            found = {(a, o) for a, o in parsed.attributes if o in own and (ATTRIBUTE, a) in there}
            _count(objects, own, set(sample.caption.objects), truth.objects)
            _count(pairs, found, set(sample.caption.attributes), truth.pairs)
        return Scores(_quality(objects), _quality(pairs))

    def trainings(self) -> list[tuple[str, list[float], list[float]]]:
        """(how, mIoU of each seed, mean IoU of expressions of each seed), in percent."""
        parser = self.settings.trained
        self.scores(parser)
        whole = self.folder / f"{SOFT}-{parser}.parquet"
        if not whole.exists():  # all tags with their scores, from what was measured for the other
            work = Path(self.check_settings(parser).work)
            soft = self.check_settings(parser, out=str(whole), keep="all")
            shutil.copytree(work, soft.work, dirs_exist_ok=True)
            check_tags(soft)
        ways = {
            UNCHECKED: (self.labels(parser), False),
            CHECKED: (Path(self.check_settings(parser).out), False),
            SOFT: (whole, True),
        }
        runs: dict[str, list[str]] = {name: [] for name in ways}
        for seed in self.settings.seeds:  # so that a run that is cut off leaves whole pairs
            for name, (labels, soft) in ways.items():
                runs[name].append(str(self._train(f"{name}-{parser}", labels, soft, seed)))
        return [
            (
                name,
                [100 * segmentation(self.chain, run)["miou"] for run in of],
                [100 * referring(self.chain, run)["mean_iou"] for run in of],
            )
            for name, of in runs.items()
        ]

    def _train(self, name: str, labels: Path, soft: bool, seed: int) -> Path:
        out = self.folder / "runs" / f"{name}-seed{seed}"
        if (out / PROJECTOR).exists():
            return out
        shutil.rmtree(out, ignore_errors=True)
        settings = TrainSettings(
            labels=str(labels),
            images=f"{self.chain.world}/train",
            runs=str(out.parent),
            name=out.name,
            cache=str(self.folder / "cache"),
            model=str(CLIP),
            weights=None,
            seed=seed,
            soft_labels=soft,
            precision=fast_precision(),
            **TRAINING,
        )
        with self.chain.stage(f"run {out.name}", f"(training on {labels.name}, seed {seed})"):
            train(settings)
        return out


def _count(counts: Counter, found: set, said: set, true: frozenset) -> None:
    said &= true
    counts.update(found=len(found), right=len(found & true), said=len(said), kept=len(found & said))


def _quality(counts: Counter) -> Quality:
    return Quality(
        counts["right"] / max(counts["found"], 1), counts["kept"] / max(counts["said"], 1)
    )
