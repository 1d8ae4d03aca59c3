"""Scores a run, or untrained CLIP, on referring segmentation: from an expression to a mask.

    python eval/refer.py --run data/runs/tagalign --benchmarks refcoco_val,refcoco+_testA --data ~/data/refer

A pixel belongs to an expression where Eq. 8's sigmoid form reaches the threshold; or, with
`--rule relative`, where the similarity does that is scaled to [0, 1] in each image.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The repository, not this folder: `eval` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.storage import Folder
from eval.datasets.referring import SPLITS, ReferringSet
from eval.inference.settings import SIGMOID, Inference
from eval.paper import REFERRING, paper_rows
from eval.referring_scores import ABSOLUTE, RULES, MeanAndOverall, score
from eval.segment import add_inference_flags, add_model_flags, inference_of
from eval.segmentation import fingerprint
from eval.segmentation_report import percent, table
from training.dense import BASELINES, load_dense
from training.distributed import process_group, rank

RESULT, TABLE = "result.json", "refer.md"


@dataclass(frozen=True)
class Settings:
    """An evaluation.

    Attributes:
        run: a run's folder, or a baseline.
        benchmarks: keys of `SPLITS`.
        data: a folder in the layout of REFER.
        inference: of probability `sigmoid`, without PAMR.
        rule: from similarities to a mask, a key of `RULES`.
        out: results go to `OUT/NAME/BENCHMARK`, in a folder that all ranks share.
        name: the run's in tables and folders; None takes the run's own.
        cache: a folder for the expressions' embeddings.
        model, weights, quick_gelu: as for `load_dense`.
        limit: only the first images of each benchmark.
        overwrite: lose results of other settings that stand there.
    """

    run: str
    benchmarks: tuple[str, ...]
    data: str
    inference: Inference = field(default_factory=lambda: Inference(probability=SIGMOID))
    rule: str = ABSOLUTE
    out: str = "data/eval"
    name: str | None = None
    cache: str = "data/cache"
    model: str | None = None
    weights: str | None = None
    quick_gelu: bool | None = None
    limit: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.benchmarks:
            raise UserError(f"no benchmark named: choose from {', '.join(SPLITS)}")
        for name in self.benchmarks:
            if name not in SPLITS:
                raise UserError(f"there is no benchmark '{name}': choose from {', '.join(SPLITS)}")
            if self.benchmarks.count(name) > 1:
                raise UserError(f"the benchmark {name} is named twice")
        if self.rule not in RULES:
            raise UserError(f"--rule is one of {', '.join(RULES)}, not '{self.rule}'")
        if self.inference.probability != SIGMOID:
            raise UserError("one expression has no rivals for a softmax: --probability is sigmoid")
        if self.inference.pamr:
            raise UserError("--pamr is for eval/segment.py only")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit is at least 1, not {self.limit}")
        if self.name is not None and (not self.name or "/" in self.name):
            raise UserError(f"--name is the name of a folder, not '{self.name}'")

    @property
    def label(self) -> str:
        """The run's name in tables and folders."""
        if self.name is not None:
            return self.name
        return self.run if self.run in BASELINES else Path(self.run).resolve().name


def refer(settings: Settings) -> dict[str, MeanAndOverall]:
    """Scores a run; under torchrun, ranks share the images.

    Returns:
        the figures of each benchmark, on every rank.

    Raises:
        UserError: see `ReferringSet`, `load_dense` and `Records`.
    """
    opened = [ReferringSet(name, Path(settings.data)) for name in settings.benchmarks]
    found = {}
    with process_group() as device:
        dense = load_dense(
            settings.run, device, settings.model, settings.weights, settings.quick_gelu
        )
        for one in opened:
            values: dict[str, Any] = {
                "benchmark": one.name,
                "run": settings.run,
                "step": dense.step,
                "model": dense.encoder.name,
                "fingerprint": fingerprint(dense),
                "inference": settings.inference.to_json(),
                "rule": settings.rule,
                "limit": settings.limit,
            }
            folder = Folder(settings.out).sub(settings.label).sub(one.name)
            cache = Folder(settings.cache)
            result = score(
                dense,
                one,
                settings.inference,
                settings.rule,
                folder,
                values,
                settings.limit,
                settings.overwrite,
                cache,
            )
            if rank() == 0:
                folder.write_json(RESULT, {"run": settings.label} | result.to_json() | values)
            found[one.name] = result
    return found


def markdown(label: str, results: dict[str, MeanAndOverall]) -> str:
    """Two rows, mean and overall IoU, below the paper's."""
    paper = paper_rows(REFERRING, list(results))
    rows = {
        f"{label}, mean IoU": {name: percent(one.mean) for name, one in results.items()},
        f"{label}, overall IoU": {name: percent(one.overall) for name, one in results.items()},
    }
    notes = []
    if any(one.partial or one.bad for one in results.values()):
        notes.append("Of some of the benchmarks' expressions only.")
    if not paper:
        notes.append(
            "The paper's figures for these benchmarks are not recorded in `eval/paper.yaml`."
        )
    return table("IoU, %", {name: name for name in results}, rows, paper, notes)


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Flags to settings.

    Raises:
        UserError: a setting that cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="a run's folder; or clip, surgery, maskclip")
    parser.add_argument("--benchmarks", required=True, help="names, divided by commas")
    parser.add_argument("--data", required=True, help="folder in the layout of REFER")
    parser.add_argument("--out", default=Settings.out, help="(default: %(default)s)")
    parser.add_argument("--name", help="of the run in tables (default: its folder's)")
    parser.add_argument("--cache", default=Settings.cache, help="folder for embeddings")
    parser.add_argument("--limit", type=int, help="only the first images of each benchmark")
    parser.add_argument("--overwrite", action="store_true", help="lose results of other settings")
    parser.add_argument(
        "--rule",
        default=Settings.rule,
        help="absolute: a pixel is of the mask where the sigmoid reaches --threshold (0.4); relative: "
        "where the similarity, from 0 to 1 in each image, does (0.5) (default: %(default)s)",
    )
    add_model_flags(parser)
    add_inference_flags(parser)
    parser.set_defaults(probability=SIGMOID)
    values = vars(parser.parse_args(arguments))
    values["benchmarks"] = tuple(n.strip() for n in values["benchmarks"].split(",") if n.strip())
    inference = inference_of(values)
    return Settings(**values, inference=inference)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        settings = parse(arguments)
        results = refer(settings)
        if os.environ.get("RANK", "0") == "0":
            folder = Folder(settings.out).sub(settings.label)
            rows = markdown(settings.label, results)
            folder.write(TABLE, rows.encode())
            print(rows)
            print(f"results, per expression and as JSON, are in {folder.url}")
        bad = [(name, *one) for name, result in results.items() for one in result.bad]
        if bad:
            shown = "; ".join(f"{key} of {name} ({why})" for name, key, why in bad[:3])
            raise UserError(
                f"{len(bad):,} expressions could not be scored and are left out of the figures: "
                f"{shown}" + (f"; and {len(bad) - 3:,} more" if len(bad) > 3 else "")
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
