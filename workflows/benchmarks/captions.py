"""What the first pass over captions costs, and what cleaning adds to it.

    python workflows/benchmarks/captions.py                          # 500,000 generated captions
    python workflows/benchmarks/captions.py --rows 3000000 --repeats 1       # for the memory
    python workflows/benchmarks/captions.py --captions alttext.parquet       # your own

Generated captions (`workflows/cc12m/zipf_captions.py`) are spoilt as the web's are: entities, markup and
URLs in the shares that 5,000 raw alt texts have them, and a `<PERSON>` in every fourth, CC12M's share
(Changpinyo et al., 2021). Every repeat is a process of its own. CPU seconds are shown, and the share is
taken of them, since other work on the machine hardly lengthens them. Figures are medians.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: a module here is called like a package there.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common.errors import UserError
from common.flags import setting
from common.storage import Folder
from parsing.source.captions import Selection, read_shard, write_caption_shards
from parsing.source.cleaning import clean_all
from parsing.source.readers import Source
from workflows.benchmarks.measuring import table
from workflows.cc12m.zipf_captions import caption_lines
from workflows.command import at_least, run_command

ROOT = Path(__file__).resolve().parents[2]
CC12M = 12_000_000
SPOILT = (  # what stands in captions, and in one of how many
    (b" <PERSON> ", 4),
    (b" &amp; ", 333),
    (b" <b>here</b> ", 166),
    (b" http://www.example.com/a/b.jpg ", 90),
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Raises:
        UserError: a number below 1.
    """

    rows: int = setting(500_000, "captions to generate", metavar="N")
    captions: str | None = setting(None, "captions of one's own instead", metavar="PATH")
    repeats: int = setting(3, "of the measurement", metavar="N")
    folder: str = setting(
        str(Path(tempfile.gettempdir()) / "tagalign-captions"),
        "where generated captions are kept",
        metavar="DIR",
    )

    def __post_init__(self) -> None:
        at_least(self, rows=1, repeats=1)

    def path(self) -> str:
        """The captions; generated first where they are not there yet."""
        if self.captions is not None:
            return self.captions
        path = Path(self.folder) / f"spoilt-{self.rows}.tsv"
        if not path.exists():
            print(f"generating {self.rows:,} captions in {path} ...", file=sys.stderr)
            write_spoilt(path, self.rows)
        return str(path)


def write_spoilt(path: Path, rows: int, distinct: int = 500_000) -> None:
    """Writes `rows` lines `url<TAB>caption` of so many words; the same rows give the same file."""
    Folder(path.parent).make()
    aside, number = path.with_suffix(".part"), 0
    with open(aside, "wb") as file:
        for lines in caption_lines(rows, distinct, 0):
            for line in lines.splitlines():
                file.write(_spoilt(line, number) + b"\n")
                number += 1
    aside.replace(path)


def _spoilt(line: bytes, number: int) -> bytes:
    marks = [mark for mark, every in SPOILT if number % every == every - 1]
    for mark in marks:
        at = line.rfind(b" ") if b" " in line.partition(b"\t")[2] else len(line)
        line = line[:at] + mark.rstrip() + line[at:]
    return line


def measure(path: str) -> dict[str, float]:
    """One pass in a folder that goes, then cleaning: CPU seconds and the pass's peak memory in bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(name)
        began, wall = time.process_time(), time.perf_counter()
        counts = write_caption_shards(folder, Source((path,)), Selection(), tell=lambda _: None)
        passed, seconds = time.process_time() - began, time.perf_counter() - wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
        cleaning = 0.0
        for number in range(counts.shards):
            captions = read_shard(folder.sub("captions"), number)["caption"]
            texts = captions.to_pylist()  # which a parser needs without cleaning, too
            began = time.process_time()
            clean_all(captions, texts)
            cleaning += time.process_time() - began
    found = {"images": counts.images, "captions": counts.captions, "seconds": seconds}
    return found | {"pass": passed, "cleaning": cleaning, "peak": peak}


def run(settings: Settings) -> str:
    """The table."""
    path, found = settings.path(), []
    for _ in range(settings.repeats):
        line = [sys.executable, "-m", "workflows.benchmarks.captions", "--part", path]
        done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise UserError(f"the measurement of {path} failed")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    one = {name: statistics.median(each[name] for each in found) for name in found[0]}
    rows = [
        ("images", f"{one['images']:,.0f}"),
        ("unique captions", f"{one['captions']:,.0f}"),
        ("first pass, CPU s", f"{one['pass']:.2f}"),
        ("first pass, s", f"{one['seconds']:.2f}"),
        ("images a CPU second", f"{one['images'] / one['pass']:,.0f}"),
        ("first pass, peak GB", f"{one['peak'] / 1e9:.2f}"),
        ("cleaning, CPU s", f"{one['cleaning']:.2f}"),
        ("cleaning of the pass", f"{100 * one['cleaning'] / one['pass']:.1f}%"),
        (f"the pass of {CC12M:,}, CPU min", f"{CC12M / one['images'] * one['pass'] / 60:.1f}"),
    ]
    return table(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, run, arguments, stopped="stopped")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        sys.exit(main())
