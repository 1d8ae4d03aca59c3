"""Hours, dollars and tags per dollar of two ways to parse CC12M: a teacher, or a teacher and its student.

    python workflows/cc12m/estimate.py                                   # 8 x A100
    python workflows/cc12m/estimate.py --gpu h100 --price 3

An estimate by formulas; nothing here was measured on GPUs. Time two thousand captions (`--limit 2000`) before
you pay for the hours.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common.flags import setting
from workflows.command import at_least, run_command

# Data sheets: name, dense bfloat16 operations a second, bytes a second from memory.
GPUS = {"a100": ("A100 80 GB", 312e12, 2.04e12), "h100": ("H100 80 GB", 989e12, 3.35e12)}
FLOPS, BANDWIDTH, TRAINING = 0.4, 0.7, 0.1  # shares of the data sheet that are reached; assumed


@dataclass(frozen=True)
class Llm:
    """What of a model decides its cost.

    Attributes:
        name: for people.
        parameters: number of weights, two bytes each.
        cache_bytes: bytes of keys and values of one token: 2 * layers * heads of keys * width * 2.
        prefix: tokens of the prompt that are the same for every caption.
        gpus: that one engine spans.
    """

    name: str
    parameters: float
    cache_bytes: float
    prefix: int
    gpus: int


TEACHER = Llm("vicuna-33b", 32.53e9, 2 * 60 * 52 * 128 * 2, 556, gpus=2)
STUDENT = Llm("student (SmolLM2-135M)", 134.5e6, 2 * 30 * 3 * 64 * 2, 3, gpus=1)


@dataclass(frozen=True)
class Settings:
    """What is estimated.

    Raises:
        UserError: a number that is too small.
    """

    captions: int = setting(12_423_374, "rows of the data set", metavar="N")
    sample: int = setting(100_000, "captions that the teacher parses for the student", metavar="N")
    gpu: str = setting("a100", "the card", choices=tuple(GPUS))
    gpus: int = setting(8, "how many cards", metavar="N")
    price: float = setting(2.0, "dollars of one GPU for an hour", metavar="X")
    batch: int = setting(
        256, "concurrent sequences of an engine, as in parsing/run.py", metavar="N"
    )
    own: float = setting(30, "tokens of a caption in the prompt", metavar="N")
    out: float = setting(12, "tokens of an answer", metavar="N")
    tags: float = setting(2.0, "tags of a caption", metavar="N")
    limit: float = setting(
        1000, "captions/s that the processor of an engine's host can serve", metavar="N"
    )

    def __post_init__(self) -> None:
        at_least(self, captions=1, sample=1, gpus=TEACHER.gpus, batch=1, own=1, out=1, price=0.01)
        at_least(self, tags=0.01, limit=1)

    def rate(self, model: Llm) -> float:
        """Captions/s of all engines of a model.

        An engine takes 2 P (own + out) / F seconds of arithmetic for a caption and its answer, and reads
        weights and cached tokens for each token it writes: out (2 P / batch + held * cache) / B. P are the
        weights, F and B the operations and bytes a second that its GPUs reach, `held` the cached tokens of
        an answer halfway. The processor of its host limits small models.
        """
        _, flops, bandwidth = GPUS[self.gpu]
        held = model.prefix + self.own + self.out / 2
        reading = 2 * model.parameters * (self.own + self.out) / (flops * FLOPS * model.gpus)
        step = 2 * model.parameters / self.batch + held * model.cache_bytes
        writing = self.out * step / (bandwidth * BANDWIDTH * model.gpus)
        return self.gpus // model.gpus * min(self.limit, 1 / (reading + writing))

    def training_hours(self, sample: int) -> float:
        """Of the student on one GPU, one epoch: 6 P (own + out) sample / (a tenth of its operations)."""
        operations = 6 * STUDENT.parameters * (self.own + self.out) * sample
        return operations / (GPUS[self.gpu][1] * TRAINING) / 3600


def report(settings: Settings) -> str:
    """The table, and what it follows from."""
    s, teacher, student = settings, settings.rate(TEACHER), settings.rate(STUDENT)
    sample = min(s.sample, s.captions)
    alone = s.captions / teacher / 3600
    both = sample / teacher / 3600 + s.training_hours(sample) + s.captions / student / 3600
    hours = (alone, both)
    costs = [one * s.gpus * s.price for one in hours]
    rows: list[tuple[str, Sequence[str]]] = [
        (f"{s.captions:,} captions, {s.gpus} x {GPUS[s.gpu][0]}",
         ("teacher parses everything", f"teacher parses {sample:,}, student everything")),
        ("---", ("--:", "--:")),
        (f"captions/s, teacher, {s.gpus // TEACHER.gpus} engines", [f"{teacher:,.0f}"] * 2),
        (f"captions/s, student, {s.gpus} engines", ("", f"{student:,.0f}")),
        ("hours, training of the student included", [f"{one:,.1f}" for one in hours]),
        (f"dollars, at {s.price:g} a GPU hour", [f"{one:,.0f}" for one in costs]),
        ("tags per dollar", [f"{float(f'{s.captions * s.tags / one:.2g}'):,.0f}" for one in costs]),
    ]  # fmt: skip
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    about = (
        f"estimated, not measured: {TEACHER.name} and {STUDENT.name}, {s.own:g} tokens of a caption, "
        f"{s.out:g} out, {s.tags:g} tags, {FLOPS:.0%} of the operations and {BANDWIDTH:.0%} of the "
        f"bandwidth, at most {s.limit:g} captions/s an engine"
    )
    return "\n".join([*lines, "", about])


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
