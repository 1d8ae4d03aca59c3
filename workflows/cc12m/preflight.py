"""Checks captions, cluster, model, output and images before the hours of a CC12M run are spent.

    python workflows/cc12m/preflight.py --captions cc12m.parquet --output /data/tags --images /data/cc12m
    python workflows/cc12m/preflight.py --captions cc12m.parquet --output /data/tags --address head:6379
    python workflows/cc12m/preflight.py --no-gpu --captions parsing/sample_captions.tsv

It takes about a minute. Each check prints lines: ok, warning or FAILED, what there is, and what to do. Only
what is named is checked. The exit status is 1 if a check failed; nothing is changed or left behind.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common.errors import UserError
from common.flags import setting
from parsing.llm import student
from parsing.llm.models import Model, find_model
from parsing.llm.parser import LLMConfig
from parsing.source.files import FORMATS
from parsing.source.readers import Source
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
from workflows.cc12m.checks.output import TAG_BYTES, check_output
from workflows.command import comma_list, run_command

AS_RUN, AS_TRAIN = "as in parsing/run.py", "as in training/train.py"


@dataclass(frozen=True)
class Settings:
    """What is looked at; what is not named is left out.

    Raises:
        UserError: a number out of its range, or --benchmarks without --data.
    """

    captions: tuple[str, ...] = setting((), AS_RUN, metavar="PATH")
    format: str | None = setting(None, AS_RUN, choices=sorted(FORMATS))
    caption_column: str | None = setting(None, AS_RUN, metavar="NAME")
    key_column: str | None = setting(None, AS_RUN, metavar="NAME")
    output: str | None = setting(None, "folder or URL of the tags", metavar="DIR")
    images: str | None = setting(None, f"folder or glob of image shards, {AS_TRAIN}", metavar="DIR")
    model: str | None = setting(
        None, f"default vicuna-33b, with --no-gpu {student.NAME}", metavar="NAME"
    )
    revision: str | None = setting(None, "of a model on the hub")
    prompt: str | None = setting(None, f"{AS_RUN}; default is the model's own", metavar="NAME")
    tensor_parallel: int | None = setting(None, "GPUs an engine; default the model's", metavar="N")
    batch: int = setting(LLMConfig.batch, AS_RUN, metavar="N")
    max_caption_tokens: int = setting(LLMConfig.max_caption_tokens, AS_RUN, metavar="N")
    gpu: bool = setting(True, "the engine runs on the CPU", flag="--no-gpu", action="store_false")
    address: str | None = setting(
        None, "of the Ray cluster, host:port; default $RAY_ADDRESS, else this machine is checked"
    )
    seconds: float = setting(60.0, "that the cluster has to answer", metavar="S")
    benchmarks: tuple[str, ...] = comma_list(
        (), f"as in eval/segment.py, or {ALL}", metavar="NAMES"
    )
    data: str | None = setting(None, "folder of the benchmarks", metavar="DIR")
    refer: str | None = setting(None, "folder of RefCOCO, RefCOCO+ and RefCOCOg", metavar="DIR")
    json: bool = setting(False, "print the findings as JSON")

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
        if not self.captions:
            return None
        return Source(self.captions, self.format, self.caption_column, self.key_column)

    def llm(self) -> Model:
        """The model as parsing/run.py will choose it."""
        name = self.model or ("vicuna-33b" if self.gpu else student.NAME)
        return find_model(name, self.revision, self.tensor_parallel)

    def parser(self) -> LLMConfig:
        """The parser as parsing/run.py will make it.

        Raises:
            UserError: settings that it refuses.
        """
        return LLMConfig(
            model=self.llm(),
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
    tp = settings.llm().tensor_parallel
    address = os.environ.get("RAY_ADDRESS") if settings.address is None else settings.address
    if address:

        def cluster() -> Iterator[Finding]:
            machines.extend(ask_cluster(address, settings.seconds))
            yield from check_cluster(address, machines, tp, settings.gpu)

        look("cluster", cluster)
    else:
        look("machine", lambda: machines.append(this_machine(names_of_interest())) or ())
    for machine in machines:
        where = "" if machine.host == socket.gethostname() else f" {machine.host}"
        look(f"versions{where}", lambda machine=machine: check_versions(machine, settings.gpu))
        # A cluster's head often has no GPU.
        if not address or machine.cards:
            look(f"GPUs{where}", lambda machine=machine: check_gpus(machine, tp, settings.gpu))
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 if a check failed, else as `run_command`."""
    found: list[Finding] = []

    def work(settings: Settings) -> str | None:
        found.extend(preflight(settings, (lambda finding: None) if settings.json else _print))
        if not settings.json:
            return None
        return json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False)

    code = run_command(__doc__, Settings, work, arguments, stopped="stopped")
    return code or int(any(finding.level == FAILED for finding in found))


def _print(finding: Finding) -> None:
    print(finding.line(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
