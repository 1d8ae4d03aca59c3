"""What the NLTK, spaCy and Tag2Text parsers cost on top of the libraries that they call.

    NLTK_DATA=... python workflows/benchmarks/parsers.py --captions cc3m.tsv --tag-list tags.txt

One process. Each parser and its reference take turns on the same captions; the medians over the rounds
are shown:

    nltk      the bare tokenizer and tagger
    spacy     a bare `nlp.pipe` with the same components and the same batches
    tag2text  splitting the captions into words and nothing else

The cold start is that of a fresh interpreter: import, build, and the first caption.
"""

from __future__ import annotations

import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder, so that nothing here hides a library.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common.errors import UserError
from common.flags import setting
from parsing.baselines.nltk_parser import NltkConfig
from parsing.baselines.spacy_parser import SpacyConfig
from parsing.baselines.tag2text_parser import Tag2TextConfig
from parsing.parser import Parser, ParserConfig
from workflows.benchmarks.measuring import table, take_turns
from workflows.command import at_least, run_command

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Raises:
        UserError: a number below 1.
    """

    captions: str = setting(
        "", "a TSV url<TAB>caption, or a text file with a caption a line", required=True,
        metavar="FILE",
    )  # fmt: skip
    tag_list: str | None = setting(
        None, "of tag2text, which is left out without one", metavar="FILE"
    )
    limit: int = setting(4000, "captions of a round", metavar="N")
    rounds: int = setting(7, "how often each side is measured", metavar="N")

    def __post_init__(self) -> None:
        at_least(self, limit=1, rounds=1)

    def read(self) -> list[str]:
        """The captions.

        Raises:
            UserError: the file cannot be read or holds none.
        """
        try:
            lines = Path(self.captions).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the captions {self.captions}: {error}") from error
        captions = [line.rpartition("\t")[2] for line in lines if line.strip()][: self.limit]
        if not captions:
            raise UserError(f"{self.captions} holds no captions")
        return captions

    def configs(self) -> list[ParserConfig]:
        configs: list[ParserConfig] = [NltkConfig(), SpacyConfig()]
        if self.tag_list is not None:
            configs.append(Tag2TextConfig(self.tag_list))
        for config in configs:
            config.check()
        return configs


def reference(name: str, parser: Parser, captions: Sequence[str]) -> Callable[[], object]:
    """What the parser's library does with the captions, without the parser."""
    if name == "nltk":
        tokenize, tag = parser.tokenize, parser.tagger.tag
        return lambda: [tag(tokenize(caption)) for caption in captions]
    if name == "spacy":
        return lambda: list(parser.pipeline.pipe(captions, batch_size=parser.batch))
    return lambda: [caption.split() for caption in captions]


def cold_start(config: ParserConfig, rounds: int = 3) -> float:
    """Median seconds from nothing to the first answer, each in an interpreter of its own."""
    code = (
        "import pickle, sys\n"
        "config = pickle.loads(bytes.fromhex(sys.stdin.read()))\n"
        "config.build().parse(['a dog on a bench'])\n"
    )
    sent = pickle.dumps(config).hex()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=sent, text=True, check=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure(settings: Settings) -> str:
    """The table, one line per parser."""
    captions = settings.read()
    rows = [("parser", "captions/s", "reference", "ratio", "cold start")]
    for config in settings.configs():
        parser = config.build()
        sides = {
            "ours": lambda parser=parser: parser.parse(captions),
            "theirs": reference(config.name, parser, captions),
        }
        seconds = take_turns(sides, settings.rounds)
        parser.close()
        ours, theirs = (len(captions) / one for one in seconds.values())
        cells = f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}"
        rows.append((config.name, *cells, f"{cold_start(config):.1f} s"))
    about = f"{len(captions):,} captions, medians of {settings.rounds} rounds, one process"
    return f"{table(rows)}\n{about}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, measure, arguments, stopped="stopped")


if __name__ == "__main__":
    sys.exit(main())
