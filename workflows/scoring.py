"""Scores in the small world: runs and untrained CLIP on its held-out scenes and expressions.

Scores stay in the chain's folder, as `eval/segment.py` and `eval/refer.py` write them. Scores that exist are
not made again.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.flags import command_line
from common.storage import Folder
from eval.datasets.benchmark_list import open_benchmark
from eval.datasets.referring import ReferringSet
from eval.inference.class_embeddings import BARE
from eval.inference.protocols import inference_of
from eval.inference.settings import PAPER, SIGMOID, Inference
from eval.records import Records
from eval.refer import refer
from eval.referring_scores import RELATIVE
from eval.segmentation import RESULT, evaluate
from eval.settings import ReferSettings
from eval.settings import SegmentSettings as EvalSettings
from training.dense import BASELINES, Dense, load_dense
from workflows.calibration import for_referring, for_segmentation
from workflows.chain import CLIP, ROOT, Chain
from workflows.shapes.dataset import written_whole

SEGMENTATION, THINGS, REFERRING = "segmentation", "things", "referring"
SPLIT = "refcoco_val"  # the layout in which the small world's expressions are written
UNTRAINED = {"clip": "plain CLIP", "surgery": "untrained CLIP Surgery"}
# The image at once, as large as it is; Eq. 7 and 8 as in the paper, as scale and threshold are chosen here.
WHOLE = inference_of(PAPER, size=0, window=0)


def segmentation(
    chain: Chain,
    run: str,
    inference: Inference = WHOLE,
    variant: str = "",
    benchmark: str = SEGMENTATION,
) -> dict[str, Any]:
    """The result of a run or a baseline on the held-out scenes.

    Args:
        chain: its world is there.
        run: a run's folder, or a key of `BASELINES`.
        inference: with a background, its scale and threshold are replaced by those that are best on the
            tuning scenes.
        variant: tells results of other ways of inference apart.
        benchmark: `SEGMENTATION`, or `THINGS`: the same scenes without their grounds, as VOC20 is VOC
            without its background, so that no threshold matters.

    Returns:
        what `eval/segment.py` writes as `result.json`, and `folder`, where it is.
    """
    name = label(run) + variant
    folder = chain.folder / "scores" / name / benchmark
    if not (folder / RESULT).exists():
        scenes = chain.world / SEGMENTATION
        if benchmark == THINGS:
            scenes = _things_only(scenes, chain.folder / THINGS)
        else:
            with chain.stage(*_calibration(chain, name)):
                tuning = open_benchmark(f"{chain.folder}/tuning/{SEGMENTATION}", chain.folder)
                inference = for_segmentation(dense(run), tuning, inference)
        settings = EvalSettings(
            runs=(run,),
            benchmarks=(str(scenes),),
            data=str(chain.folder),
            inference=inference,
            out=str(chain.folder / "scores"),
            name=name,
            cache=str(chain.folder / "cache"),
            model=_model(run),
            overlays=0,
            overwrite=True,
        )
        with chain.stage(f"{benchmark} {name}", _command("eval/segment.py", settings)):
            evaluate(settings)
    return json.loads((folder / RESULT).read_text("utf-8")) | {"folder": str(folder)}


def image_counts(result: dict[str, Any]) -> np.ndarray:
    """The confusion matrix of every scene behind a result: int64 of shape (N, C, C)."""
    folder = Folder(result["folder"])
    about = folder.read_json("settings.json")
    records = Records(folder, about, len(about["classes"]))
    found = records.read()
    return np.stack([records.total({key: found[key]}) for key in sorted(found)])


def referring(chain: Chain, run: str) -> dict[str, Any]:
    """What `eval/refer.py` writes of a run or a baseline on the held-out expressions."""
    name = label(run)
    folder = chain.folder / REFERRING / name / SPLIT
    if not (folder / RESULT).exists():
        # An expression has no other classes, and is a sentence already.
        inference = replace(WHOLE, probability=SIGMOID, templates=BARE)
        with chain.stage(*_calibration(chain, f"{name}, expressions")):
            tuning = ReferringSet(SPLIT, chain.folder / "tuning" / REFERRING)
            inference = for_referring(dense(run), tuning, inference)
        settings = ReferSettings(
            run=run,
            benchmarks=(SPLIT,),
            data=f"{chain.world}/{REFERRING}",
            inference=inference,
            rule=RELATIVE,
            out=str(chain.folder / REFERRING),
            name=name,
            cache=str(chain.folder / "cache"),
            model=_model(run),
            overwrite=True,
        )
        with chain.stage(f"{REFERRING} {name}", _command("eval/refer.py", settings)):
            refer(settings)
    return json.loads((folder / RESULT).read_text("utf-8"))


def dense(run: str) -> Dense:
    """A run, or the small world's own CLIP as a baseline."""
    return load_dense(run, model=_model(run))


def label(run: str) -> str:
    """A run's name in tables and folders."""
    return run if run in BASELINES else Path(run).name


def _model(run: str) -> str | None:
    return str(CLIP) if run in BASELINES else None


def _calibration(chain: Chain, name: str) -> tuple[str, str]:
    return (
        f"calibration {name}",
        f"(scale and threshold of {name}, chosen on {chain.folder}/tuning)",
    )


def _command(script: str, settings: EvalSettings | ReferSettings) -> str:
    """What a person types for it in the repository."""
    model = settings.model and os.path.relpath(settings.model, ROOT)
    flags = command_line("", settings.inference).removeprefix("python ''")
    return command_line(script, replace(settings, model=model)) + flags


def _things_only(benchmark: Path, out: Path) -> Path:
    """A copy of a benchmark in which the background counts for nothing."""
    if not out.exists():
        with written_whole(out) as aside:
            shutil.copytree(benchmark, aside, dirs_exist_ok=True)
            about = yaml.safe_load((benchmark / "benchmark.yaml").read_text("utf-8"))
            about |= {"title": f"{about['title']}, things only", "background": False, "ignore": [0]}
            (aside / "benchmark.yaml").write_text(yaml.safe_dump(about, sort_keys=False), "utf-8")
    return out
