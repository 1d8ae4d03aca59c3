"""What would stop the road to CC12M's tags after hours is found in a minute.

    python workflows/cc12m/preflight.py --captions cc12m.parquet --output /data/tags --images /data/cc12m
    python workflows/cc12m/preflight.py --captions cc12m.parquet --output /data/tags --address head:6379
    python workflows/cc12m/preflight.py --no-gpu --captions parsing/sample_captions.tsv --model smollm2

Each check prints lines: ok, warning or FAILED, what there is, and what to do. Only what is named is
looked at. The exit status is 1 if a check failed; nothing is changed or left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from parsing.errors import UserError
from parsing.inputs import FORMATS
from parsing.llm_parser import LLMConfig
from parsing.models import find_model
from parsing.readers import Source
from workflows.cc12m.checks.benchmarks import ALL, check_benchmarks, check_referring
from workflows.cc12m.checks.captions import READ, check_captions, count_rows
from workflows.cc12m.checks.cluster import ask_cluster, check_cluster
from workflows.cc12m.checks.finding import FAILED, Finding, run_check
from workflows.cc12m.checks.images import check_images
from workflows.cc12m.checks.machine import (
    Machine,
    check_gpus,
    check_versions,
    names_of_interest,
    this_machine,
)
from workflows.cc12m.checks.model import check_model
from workflows.cc12m.checks.output import check_output
from workflows.cc12m.estimate import TAG_BYTES


@dataclass(frozen=True)
class Settings:
    """What is looked at; None leaves a check out.

    Attributes:
        captions, format, caption_column, key_column: as in parsing/run.py.
        output: its output folder.
        images: as in training/train.py.
        model, revision, prompt, tensor_parallel, batch, max_caption_tokens: as in parsing/run.py.
        gpu: whether engines are to run on GPUs.
        address: of the Ray cluster; None looks at this machine instead.
        seconds: that the cluster has to answer.
        benchmarks, data: names and folder, as in eval/segment.py.
        refer: folder of the referring benchmarks, as --data of eval/refer.py.
    """

    captions: tuple[str, ...] | None = None
    format: str | None = None
    caption_column: str | None = None
    key_column: str | None = None
    output: str | None = None
    images: str | None = None
    model: str | None = None
    revision: str | None = None
    prompt: str = "default"
    tensor_parallel: int | None = None
    batch: int = LLMConfig.batch
    max_caption_tokens: int = LLMConfig.max_caption_tokens
    gpu: bool = True
    address: str | None = None
    seconds: float = 60
    benchmarks: tuple[str, ...] = ()
    data: str | None = None
    refer: str | None = None

    def __post_init__(self) -> None:
        if self.tensor_parallel is not None and self.tensor_parallel < 1:
            raise UserError(f"--tensor-parallel must be at least 1, not {self.tensor_parallel}")
        if not self.seconds > 0:
            raise UserError(f"--seconds must be above 0, not {self.seconds:g}")
        if bool(self.benchmarks) != (self.data is not None):
            raise UserError(
                "--benchmarks and --data go together: names, and the folder they lie in"
            )

    @property
    def source(self) -> Source | None:
        if self.captions is None:
            return None
        return Source(self.captions, self.format, self.caption_column, self.key_column)

    def parser(self) -> LLMConfig:
        """The parser as parsing/run.py will make it.

        Raises:
            UserError: settings that it refuses.
        """
        name = self.model or ("vicuna-33b" if self.gpu else "smollm2")
        return LLMConfig(
            model=find_model(name, self.revision, self.tensor_parallel),
            prompt=self.prompt,
            max_caption_tokens=self.max_caption_tokens,
            gpu=self.gpu,
            batch=self.batch,
        )


def preflight(settings: Settings, tell: Callable[[Finding], None]) -> list[Finding]:
    """Runs every check that the settings name; never raises for what it finds.

    Args:
        tell: called with each finding as it comes.
    """
    found: list[Finding] = []

    def look(name: str, check: Callable[[], Iterator[Finding]]) -> None:
        for finding in run_check(name, check):
            found.append(finding)
            tell(finding)

    machines: list[Machine] = []
    tp = settings.tensor_parallel or (find_model(settings.model or "vicuna-33b").tensor_parallel)
    if settings.address:

        def cluster() -> Iterator[Finding]:
            machines.extend(ask_cluster(settings.address, settings.seconds))
            yield from check_cluster(settings.address, machines, tp, settings.gpu)

        look("cluster", cluster)
    else:
        look("machine", lambda: machines.append(this_machine(names_of_interest())) or ())
    for machine in machines:
        look("versions", lambda machine=machine: check_versions(machine, settings.gpu))
        # A cluster's head often has no GPU.
        if not settings.address or machine.cards:
            look("GPUs", lambda machine=machine: check_gpus(machine, tp, settings.gpu))
    cards = [card for machine in machines for card in machine.cards]
    memory = min((card.memory for card in cards), default=None)
    look("model", lambda: check_model(settings.parser(), memory))
    source = settings.source
    if source is not None:
        look("captions", lambda: check_captions(source))
    if settings.output is not None:
        look("output", lambda: check_output(settings.output, _needed(source)))
    if settings.images is not None:
        look("images", lambda: check_images(settings.images, source))
    if settings.benchmarks:
        look("benchmarks", lambda: check_benchmarks(settings.benchmarks, Path(settings.data)))
    if settings.refer is not None:
        look("referring", lambda: check_referring(Path(settings.refer)))
    return found


def _needed(source: Source | None) -> float | None:
    """Bytes that the run will write; None where the number of captions is not known."""
    if source is None:
        return None
    try:
        rows = [row for row, _ in zip(source.rows(), range(READ), strict=False)]
        count, _ = count_rows(source, source.files(), rows)
    except UserError:  # the check of the captions has said so
        return None
    return None if count is None else count * TAG_BYTES


def parse_flags(arguments: Sequence[str] | None = None) -> tuple[Settings, bool]:
    """Settings, and whether JSON is asked for.

    Raises:
        UserError: settings that cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, default = parser.add_argument, Settings()
    add("--captions", nargs="+", metavar="PATH", help="as in parsing/run.py")
    add("--format", choices=sorted(FORMATS), help="as in parsing/run.py")
    add("--caption-column", metavar="NAME", help="as in parsing/run.py")
    add("--key-column", metavar="NAME", help="as in parsing/run.py")
    add("--output", metavar="DIR", help="folder or URL of the tags")
    add("--images", metavar="DIR", help="folder or glob of image shards")
    add("--model", metavar="NAME", help="default vicuna-33b, with --no-gpu smollm2")
    add("--revision", help="of a model on the hub")
    add("--prompt", default=default.prompt, help="default %(default)s")
    add("--tensor-parallel", type=int, metavar="N", help="GPUs an engine; default the model's")
    add("--batch", type=int, default=default.batch, help="default %(default)s")
    add("--max-caption-tokens", type=int, default=default.max_caption_tokens, metavar="N",
        help="default %(default)s")  # fmt: skip
    add("--no-gpu", dest="gpu", action="store_false", help="the engine runs on the CPU")
    add("--address", default=os.environ.get("RAY_ADDRESS"),
        help="of the Ray cluster, host:port; default $RAY_ADDRESS, else this machine")  # fmt: skip
    add("--seconds", type=float, default=default.seconds, metavar="S",
        help="that the cluster has to answer; default %(default)g")  # fmt: skip
    add("--benchmarks", default="", metavar="NAMES",
        help=f"divided by commas, as in eval/segment.py, or {ALL}")  # fmt: skip
    add("--data", metavar="DIR", help="folder of the benchmarks")
    add("--refer", metavar="DIR", help="folder of RefCOCO, RefCOCO+ and RefCOCOg")
    add("--json", action="store_true", help="print the findings as JSON")
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    values["captions"] = tuple(values["captions"]) if values["captions"] else None
    names = values["benchmarks"].split(",")
    values["benchmarks"] = tuple(name.strip() for name in names if name.strip())
    return Settings(**values), as_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 if a check failed, 2 for flags that make no sense."""
    try:
        settings, as_json = parse_flags(arguments)
        tell = (lambda finding: None) if as_json else _print
        found = preflight(settings, tell)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2, ensure_ascii=False))
    return int(any(finding.level == FAILED for finding in found))


def _print(finding: Finding) -> None:
    print(finding.line(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
