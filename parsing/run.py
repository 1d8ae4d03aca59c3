"""Captions in, object and attribute tags out.

    python parsing/run.py --captions cc12m.tsv --output data/tags
    ray job submit -- python parsing/run.py --captions /data/cc12m.tsv --output /data/tags

Kill it whenever you like: the same command goes on where it left off.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `parsing` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.errors import UserError
from common.flags import add_flags, given
from parsing.choice import ParserChoice
from parsing.job.driver import run
from parsing.job.settings import RunSettings
from parsing.job.silence import Silence
from parsing.source.captions import Selection
from parsing.source.readers import Source

_RUN = ("output", "retry_failed")
_PARSERS = ("parser", "tag_list", "fake_seconds", "fake_poison")
_CLUSTER = ("address", "actors", "wait_for_room", "start_limit", "answer_limit")
# Topic of `--help TOPIC`: what it is about, and the settings that it explains.
TOPICS = {
    "captions": ("what is read", [(Source, None), (Selection, ("limit", "sample"))]),
    "run": (
        "where it goes, and how it goes on",
        [(RunSettings, _RUN), (Selection, ("shard_size",))],
    ),
    "llm": (
        "the LLM parser (default)",
        [(ParserChoice, ("model", "revision", "prompt", "constraint", "tensor_parallel", "batch",
                         "batch_invariant", "engine", "max_caption_tokens", "device"))],
    ),
    "endpoint": (
        "the LLM parser, asking a server",
        [(ParserChoice, ("endpoint", "endpoint_model", "endpoint_timeout"))],
    ),
    "parsers": ("the baselines of the paper's Table 4", [(ParserChoice, _PARSERS)]),
    "cluster": ("where it runs", [(RunSettings, _CLUSTER), (ParserChoice, ("cpus_per_actor",))]),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 when every caption has a row, 2 for a user's mistake."""
    flags = parse_flags(arguments)
    if flags.help is not None:
        return _show_help(flags.help)
    try:
        choice = ParserChoice(**given(flags, ParserChoice))
        settings = RunSettings(
            source=Source(**given(flags, Source)),
            selection=Selection(**given(flags, Selection)),
            **given(flags, RunSettings),
        )
        if flags.dry_run:
            from parsing.job.dry_run import dry_run
            from parsing.llm.models import find_model

            # No cluster is asked: a model that spans GPUs is taken to have them.
            config = choice.config(lambda: find_model(choice.model or "").tensor_parallel > 1)
            print(dry_run(settings.source, settings.selection, config))
            return 0
        with Silence() as silence:
            folder = run(settings, choice.config, silence)
            from parsing.job.summary import summarise

            silence.doing("counting tags for the summary")
            print(summarise(folder))
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def parse_flags(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of all topics, `dry_run`, and `help`: None, "" or a topic."""
    return _parser(TOPICS).parse_args(arguments)


def _parser(topics: Iterable[str], common: bool = True) -> argparse.ArgumentParser:
    usage = "python parsing/run.py [--captions PATH ...] [--output DIR] [flags]"
    parser = argparse.ArgumentParser(
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{usage}; --help explains them" if common else argparse.SUPPRESS,
    )
    if common:
        parser.add_argument("-h", "--help", nargs="?", const="", metavar="TOPIC", help="this help")
    for topic in topics:
        about, settings = TOPICS[topic]
        group = parser.add_argument_group(about)
        for dataclass, names in settings:
            add_flags(group, dataclass, names)
        if topic == "run":
            group.add_argument(
                "--dry-run",
                action="store_true",
                help="print the prompt for three captions, token counts and an estimate; parse "
                "nothing",
            )
    return parser


def _show_help(topic: str) -> int:
    """Prints one topic, or the list of topics with their flags, each on one screen."""
    if topic in TOPICS:
        print(_parser([topic], common=False).format_help().strip())
        return 0
    if topic:
        print(f"error: no help on '{topic}': topics are {', '.join(TOPICS)}", file=sys.stderr)
        return 2
    print("usage: python parsing/run.py [--captions PATH ...] [--output DIR] [flags]\n")
    print(__doc__.strip())
    for name, (about, _) in TOPICS.items():
        usage = _parser([name], common=False).format_help()
        flags = [word for word in usage.split() if word.startswith("--")]
        print(f"\n--help {name}\n    {about}\n    {' '.join(dict.fromkeys(flags))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
