"""How much the NLTK, spaCy and Tag2Text parsers cost on top of the libraries they stand on.

    NLTK_DATA=... python workflows/benchmarks/parsers.py --captions cc3m.tsv --tag-list tags.txt

One process. Each parser and its reference take turns on the same captions, and the
medians over the rounds are shown:

    nltk      the bare tokenizer and tagger
    spacy     a bare `nlp.pipe` with the same components and the same batches
    tag2text  splitting the captions into words and nothing else

The cold start is that of a fresh interpreter: import, build, and the first caption.
"""

from __future__ import annotations

import argparse
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

from parsing.errors import UserError
from parsing.parser import Parser, ParserConfig

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        captions: a TSV of `url<TAB>caption`, or a text file with a caption per line.
        tag_list: for tag2text; without one it is left out.
        limit: captions per round.
        rounds: how often each side is measured.
    """

    captions: str
    tag_list: str | None = None
    limit: int = 4000
    rounds: int = 7

    def __post_init__(self) -> None:
        if self.limit < 1 or self.rounds < 1:
            raise UserError("--limit and --rounds must be at least 1")

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
        from parsing.nltk_parser import NltkConfig
        from parsing.spacy_parser import SpacyConfig
        from parsing.tag2text_parser import Tag2TextConfig

        configs: list[ParserConfig] = [NltkConfig(), SpacyConfig()]
        if self.tag_list is not None:
            configs.append(Tag2TextConfig(self.tag_list))
        for config in configs:
            config.check()
        return configs


def reference(name: str, parser: Parser) -> Callable[[Sequence[str]], object]:
    """What the parser's library does with captions when left to itself."""
    if name == "nltk":
        tokenize, tag = parser.tokenize, parser.tagger.tag
        return lambda captions: [tag(tokenize(caption)) for caption in captions]
    if name == "spacy":
        return lambda captions: list(parser.pipeline.pipe(captions, batch_size=parser.batch))
    return lambda captions: [caption.split() for caption in captions]


def compare(name: str, parser: Parser, captions: Sequence[str], rounds: int) -> tuple[float, float]:
    """Median captions per second of (the parser, its reference), measured in turns."""
    sides = (parser.parse, reference(name, parser))
    taken: tuple[list[float], list[float]] = ([], [])
    for side in sides:
        side(captions[:256])
    for number in range(rounds):
        for place in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            sides[place](captions)
            taken[place].append(time.perf_counter() - began)
    ours, theirs = (len(captions) / statistics.median(times) for times in taken)
    return ours, theirs


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
    configs = settings.configs()
    lines = [f"{'parser':<10}{'captions/s':>12}{'reference':>12}{'ratio':>8}{'cold start':>12}"]
    for config in configs:
        parser = config.build()
        ours, theirs = compare(config.name, parser, captions, settings.rounds)
        parser.close()
        lines.append(
            f"{config.name:<10}{ours:>12,.0f}{theirs:>12,.0f}{ours / theirs:>8.2f}"
            f"{cold_start(config):>10.1f} s"
        )
    lines.append(f"{len(captions):,} captions, medians of {settings.rounds} rounds, one process")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", required=True, metavar="FILE")
    parser.add_argument("--tag-list", metavar="FILE", help="for tag2text: one tag per line")
    parser.add_argument("--limit", type=int, default=Settings.limit, metavar="N")
    parser.add_argument("--rounds", type=int, default=Settings.rounds, metavar="N")
    try:
        print(measure(Settings(**vars(parser.parse_args(arguments)))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
