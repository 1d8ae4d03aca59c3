"""Trains a small model on a large one's answers, or on gold tags: a student for `parsing/run.py --model`.

    python parsing/distill.py --teacher data/tags-33b --base smollm2 --output data/student
    python parsing/distill.py --gold web.jsonl:4 --gold factual.csv --output data/student
    python parsing/distill.py --gold web.jsonl:2 --gold factual.csv:0.2 --members 4 --output data/student
    python parsing/distill.py --gold mine.jsonl:4 --start-from data/student --lr 5e-4 --output data/mine
    torchrun --nproc-per-node 8 parsing/distill.py --teacher data/tags-33b --output data/student

Ends with a table: how far the base model and the student agree with the teacher and with gold on
captions that were held out. Kill it whenever you like: the same command goes on where it left off.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `parsing` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import add_flags, given
from parsing.distillation.settings import DistillSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    try:
        if table := distill(parse_flags(arguments)):
            print(table)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def distill(settings: DistillSettings) -> str:
    """Trains and scores a student.

    Returns:
        the table of figures, and where the student is; "" in all processes but the first.

    Raises:
        UserError: as `read_examples`, `read_others`, `train`, `write_student` and `agreement`.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from parsing.distillation.examples import digests, read_examples
    from parsing.distillation.members import hashes_of, read_others, read_start, train_members
    from parsing.llm.models import PROVENANCE, find_model
    from parsing.llm.parser import LLMConfig

    if settings.folder.exists() and not (settings.folder / PROVENANCE).exists():
        raise UserError(f"{settings.folder} exists and is no student: give another --output")
    base = find_model(settings.base)
    tokens = LLMConfig(model=base, prompt=settings.prompt).tokens()
    if tokens.tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {settings.base} has no token that ends a text")
    sources = read_examples(settings, tokens.prompt.form)
    others, start = read_others(settings, base), read_start(settings, base)
    hashes = digests(sources) | hashes_of(*others, start)
    digest = settings.digest(hashes)
    if not settings.folder.exists():
        from parsing.distillation.student_folder import write_student

        model = train_members(
            settings, base.folder(), base.revision, tokens, sources, others, start
        )
        if int(os.environ.get("RANK", "0")):
            return ""
        write_student(settings, base, tokens, model, sources, others, start, digest)
        del model
    from parsing.distillation.agreement import agreement
    from parsing.distillation.student_folder import add_figures, check_student

    check_student(settings, digest)
    table = agreement(settings, base, sources)
    add_figures(settings, table)
    shutil.rmtree(settings.training_folder, ignore_errors=True)
    return f"{table}\n\nthe student: {settings.folder}"


def parse_flags(arguments: Sequence[str] | None = None) -> DistillSettings:
    """Settings from the command line.

    Raises:
        UserError: as `DistillSettings`.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser, DistillSettings)
    return DistillSettings(**given(parser.parse_args(arguments), DistillSettings))


if __name__ == "__main__":
    sys.exit(main())
