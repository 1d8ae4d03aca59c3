"""Captions in, object and attribute tags out.

    python parsing/run.py --captions cc12m.tsv --output data/tags
    ray job submit -- python parsing/run.py --captions /data/cc12m.tsv --output /data/tags

Kill it whenever you like: the same command goes on where it left off.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    # The repository, not this folder: `parsing` is a package also where nothing is installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from parsing import cluster
from parsing.captions import Selection
from parsing.driver import RunSettings, run
from parsing.errors import UserError
from parsing.fake_parser import FakeConfig
from parsing.inputs import FORMATS
from parsing.parser import ParserConfig
from parsing.readers import Source

DEFAULT_CAPTIONS = "data/captions"
PARSERS = ("llm", "nltk", "spacy", "tag2text", "fake")
TOPICS = ("captions", "run", "llm", "parsers", "cluster")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 when every caption has a row, 2 for a user's mistake."""
    flags = parse_flags(arguments)
    try:
        if flags.dry_run:
            from parsing.dry_run import dry_run
            from parsing.models import find_model

            settings = run_settings(flags)
            # No cluster is asked: a model that spans GPUs is taken to have them.
            config = parser_config(flags, lambda: find_model(flags.model or "").tensor_parallel > 1)
            print(dry_run(settings.source, settings.selection, config))
            return 0
        folder = run(run_settings(flags), lambda: parser_config(flags, cluster.has_gpus))
        from parsing.summary import summarise

        print(summarise(folder))
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def run_settings(flags: argparse.Namespace) -> RunSettings:
    return RunSettings(
        source=Source(
            paths=tuple(flags.captions or [DEFAULT_CAPTIONS]),
            format=flags.format,
            caption_column=flags.caption_column,
            key_column=flags.key_column,
            split=flags.split,
        ),
        selection=Selection(flags.limit, flags.sample, flags.shard_size),
        output=flags.output,
        actors=flags.actors,
        address=flags.address,
        retry_failed=flags.retry_failed,
        wait_for_room=flags.wait_for_room,
    )


def parser_config(flags: argparse.Namespace, has_gpus: Callable[[], bool]) -> ParserConfig:
    """The parser that the flags ask for; `has_gpus` is asked only where they leave it open."""
    if flags.parser == "nltk":
        from parsing.nltk_parser import NltkConfig

        return NltkConfig()
    if flags.parser == "spacy":
        from parsing.spacy_parser import SpacyConfig

        return SpacyConfig()
    if flags.parser == "tag2text":
        from parsing.tag2text_parser import Tag2TextConfig

        if flags.tag_list is None:
            raise UserError("--parser tag2text needs --tag-list FILE: one tag a line")
        return Tag2TextConfig(tag_list=flags.tag_list)
    if flags.parser == "fake":
        return FakeConfig(seconds=flags.fake_seconds)
    return _llm_config(flags, has_gpus)


def _llm_config(flags: argparse.Namespace, has_gpus: Callable[[], bool]) -> ParserConfig:
    from parsing.llm_parser import LLMConfig
    from parsing.models import find_model

    gpu = {"auto": has_gpus, "gpu": lambda: True, "cpu": lambda: False}[flags.device]()
    name = flags.model or ("vicuna-33b" if gpu else "smollm2")
    return LLMConfig(
        model=find_model(name, flags.revision, flags.tensor_parallel),
        prompt=flags.prompt,
        max_caption_tokens=flags.max_caption_tokens,
        gpu=gpu,
        cpus=flags.cpus_per_actor,
        batch=flags.batch,
    )


class _Help(argparse.Action):
    """`--help` shows what most people need, `--help TOPIC` one topic, each on one screen."""

    def __call__(self, parser, namespace, topic, option=None):
        groups = {group.title: group for group in parser._action_groups}
        formatter = parser._get_formatter()
        if topic is None:
            usage = "python parsing/run.py [--captions PATH ...] [--output DIR] [flags]"
            formatter.add_text(f"usage: {usage}")
            formatter.add_text(parser.description)
            for name in TOPICS:
                flags = " ".join(a.option_strings[-1] for a in groups[name]._group_actions)
                formatter.add_text(f"--help {name}\n    {groups[name].description}\n    {flags}")
        elif topic in TOPICS:
            formatter.start_section(groups[topic].description)
            formatter.add_arguments(groups[topic]._group_actions)
            formatter.end_section()
        else:
            parser.error(f"no help on '{topic}': topics are {', '.join(TOPICS)}")
        print(formatter.format_help().strip())
        parser.exit(0)


def parse_flags(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="python parsing/run.py [flags]; --help explains them",
    )
    parser.add_argument("-h", "--help", action=_Help, nargs="?", metavar="TOPIC")

    group = parser.add_argument_group("captions", "what is read")
    add = group.add_argument
    add(
        "--captions",
        nargs="+",
        metavar="PATH",
        help="files, folders, globs, URLs of fsspec "
        f"(s3://...), or hf:NAME[:CONFIG]; default {DEFAULT_CAPTIONS}",
    )
    add(
        "--format",
        choices=sorted(FORMATS),
        help="where the file's ending does not tell; tsv is CC12M's own url<TAB>caption",
    )
    add(
        "--caption-column",
        metavar="NAME",
        help="Parquet, JSONL, webdataset .json, data sets: "
        "default is the first usual name (caption, text, TEXT ...)",
    )
    add("--key-column", metavar="NAME", help="the image's key: default likewise (key, url ...)")
    add("--split", default="train", help="of a Hugging Face data set; default %(default)s")
    add("--limit", type=int, metavar="N", help="only the first N unique captions")
    add(
        "--sample",
        type=float,
        metavar="SHARE",
        help="only this share of the unique captions, the same ones in every run",
    )

    group = parser.add_argument_group("run", "where it goes, and how it goes on")
    add = group.add_argument
    add("--output", default="data/tags", metavar="DIR", help="folder or URL; default %(default)s")
    add(
        "--shard-size",
        type=int,
        default=Selection.shard_size,
        metavar="N",
        help="captions parsed, retried and committed together; default %(default)s",
    )
    add("--retry-failed", action="store_true", help="parse the rows with status `failed` again")
    add(
        "--dry-run",
        action="store_true",
        help="print the prompt for three captions, token counts and an estimate; parse nothing",
    )

    group = parser.add_argument_group("llm", "the LLM parser (default)")
    add = group.add_argument
    add(
        "--model",
        metavar="NAME",
        help="vicuna-33b (default with GPUs), smollm2 (default without), "
        "a hub id, or a local folder",
    )
    add("--revision", help="of a model on the hub")
    add(
        "--prompt",
        default="default",
        metavar="NAME",
        help="a file of prompts/, or a path; default %(default)s",
    )
    add(
        "--tensor-parallel",
        type=int,
        metavar="N",
        help="GPUs that one engine spans; default is the preset's, else 1",
    )
    add(
        "--batch",
        type=int,
        default=256,
        metavar="N",
        help="answers in the making at a time; default %(default)s",
    )
    add(
        "--max-caption-tokens",
        type=int,
        default=256,
        metavar="N",
        help="longer captions get the status too_long; default %(default)s",
    )
    add(
        "--device",
        choices=("auto", "gpu", "cpu"),
        default="auto",
        help="default %(default)s: GPUs where the cluster has some",
    )

    group = parser.add_argument_group("parsers", "the baselines of the paper's Table 4")
    add = group.add_argument
    add(
        "--parser",
        choices=PARSERS,
        default="llm",
        help="default %(default)s; fake needs no model and tries out a cluster",
    )
    add("--tag-list", metavar="FILE", help="tag2text: the tags it may give, one a line")
    add("--fake-seconds", type=float, default=0.0, metavar="S", help="fake: time per caption")

    group = parser.add_argument_group("cluster", "where it runs")
    add = group.add_argument
    add(
        "--address",
        help="of a Ray cluster (host:port, auto, ray://host:port); default "
        "$RAY_ADDRESS, which a Ray job has, else a Ray of this process's own",
    )
    add(
        "--actors",
        type=int,
        metavar="N",
        help="parsers at a time; default as many as there is room for",
    )
    add(
        "--cpus-per-actor",
        type=float,
        metavar="N",
        help="cores of one engine; default all of a node, one where a GPU computes",
    )
    add(
        "--wait-for-room",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="wait for a place in a cluster that is full or grows on demand; default %(default)g",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
