"""Scores a run, or untrained CLIP, on referring segmentation: from an expression to a mask.

    python eval/refer.py --run data/runs/tagalign --benchmarks refcoco_val,refcoco+_testA --data ~/data/refer

The mask of an expression is where the sigmoid form of Eq. 8 reaches the threshold; or, with
`--rule relative`, where the similarity, scaled to [0, 1] in each image, reaches the threshold.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Imports start at the repository, so that nothing needs to be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.storage import Folder
from eval.datasets.referring import ReferringSet
from eval.inference.class_embeddings import BARE
from eval.inference.protocols import describe, normalisation_for, used
from eval.inference.settings import SIGMOID
from eval.paper import REFERRING, paper_rows
from eval.referring_scores import MeanAndOverall, score
from eval.segmentation import fingerprint
from eval.segmentation_report import percent, table
from eval.settings import ReferSettings, parse_flags
from training.dense import load_dense
from training.distributed import process_group, rank

RESULT, TABLE = "result.json", "refer.md"


def refer(settings: ReferSettings) -> dict[str, MeanAndOverall]:
    """Scores a run on benchmarks; under torchrun, the ranks share the images.

    Returns:
        the figures by benchmark, on every rank.

    Raises:
        UserError: see `ReferringSet`, `load_dense` and `Records`.
    """
    opened = [ReferringSet(name, Path(settings.data)) for name in settings.benchmarks]
    found = {}
    with process_group() as device:
        about = (settings.model, settings.weights, settings.quick_gelu)
        normalisation = normalisation_for(settings.inference, settings.run)
        dense = load_dense(settings.run, device, *about, normalisation)
        inference = used(settings.inference, dense)
        for one in opened:
            values: dict[str, Any] = {
                "benchmark": one.name,
                "run": settings.run,
                "step": dense.step,
                "model": dense.encoder.name,
                "fingerprint": fingerprint(dense),
                "inference": inference.to_json(),
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
            protocol = f"{describe(inference.to_json())}; masks by rule {settings.rule}"
            found[one.name] = replace(result, protocol=protocol)
    return found


def markdown(label: str, results: dict[str, MeanAndOverall]) -> str:
    """A Markdown table with a row for mean IoU and one for overall IoU, below the paper's rows."""
    paper = paper_rows(REFERRING, list(results))
    rows = {
        f"{label}, mean IoU": {name: percent(one.mean) for name, one in results.items()},
        f"{label}, overall IoU": {name: percent(one.overall) for name, one in results.items()},
    }
    notes = [
        f"{protocol}."
        for protocol in dict.fromkeys(o.protocol for o in results.values())
        if protocol
    ]
    if any(one.partial or one.bad for one in results.values()):
        notes.append("Only some of the benchmarks' expressions were scored.")
    if not paper:
        notes.append("The paper has no figures for these benchmarks.")
    return table("IoU, %", {name: name for name in results}, rows, paper, notes)


def parse(arguments: Sequence[str] | None = None) -> ReferSettings:
    """Settings from the command line.

    Raises:
        UserError: as `ReferSettings` and `Inference`.
    """
    own = {"probability": SIGMOID, "templates": BARE}  # an expression is a sentence already
    return parse_flags(ReferSettings, __doc__, arguments, own)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake or expressions that cannot be scored."""
    try:
        settings = parse(arguments)
        results = refer(settings)
        if os.environ.get("RANK", "0") == "0":
            folder = Folder(settings.out).sub(settings.label)
            rows = markdown(settings.label, results)
            folder.write(TABLE, rows.encode())
            print(rows)
            print(f"results as JSON, per expression and in total: {folder.url}")
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
