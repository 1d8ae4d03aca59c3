"""Scores runs, or untrained CLIP, on the paper's segmentation benchmarks.

    python eval/segment.py --run data/runs/tagalign --benchmarks voc,context59 --data ~/data
    python eval/segment.py --run clip --benchmarks coco_object --data ~/data/coco
    torchrun --nproc-per-node 8 -- eval/segment.py --run clip --benchmarks ade20k --data ~/data

Prints IoU per class and a table of mIoU, and writes both to --out with pictures of some images.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Imports start at the repository, so that nothing needs to be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.storage import Folder
from eval.segmentation import complaint, earlier_results, evaluate
from eval.segmentation_report import class_table, markdown, protocol_of
from eval.settings import SegmentSettings, parse_flags

TABLE = "table.md"


def parse(arguments: Sequence[str] | None = None) -> SegmentSettings:
    """Settings from the command line.

    Raises:
        UserError: as `SegmentSettings` and `Inference`.
    """
    return parse_flags(SegmentSettings, __doc__, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake or images that could not be scored."""
    try:
        settings = parse(arguments)
        results = evaluate(settings)
        if os.environ.get("RANK", "0") != "0":
            return 0
        rows = markdown([*earlier_results(settings), *results])
        folder = Folder(settings.out)
        folder.write(TABLE, rows.encode())
        for result in results:
            print(f"{result.run}\n\n{class_table(result)}\n{protocol_of(result)}\n")
        print(rows)
        print(f"results as JSON, per image and in total, and overlays: {folder.url}")
        if problem := complaint(results, folder.url):
            raise UserError(problem)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
