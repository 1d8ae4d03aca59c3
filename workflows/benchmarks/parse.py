"""The pipeline's captions/s beside bare vLLM and Ray Data's LLM processor, and beside another model's.

    python workflows/benchmarks/parse.py --captions cc3m_val.tsv --limit 600 --repeats 3
    python workflows/benchmarks/parse.py --captions cc3m_val.tsv --model smollm2 --against ""

The first four rows answer the same prompts with the same sampling parameters on engines of the same
settings, each in a process of its own. Loading an engine counts for none of them:

- bare: one call of `vllm.LLM.generate` with every prompt, after one prompt sent ahead;
- ray.data.llm: its engine stage given every prompt as one batch, from the batch's beginning to its
  last answer, by its own clock; what lies before and behind that stage does not count;
- pipeline: `parsing/run.py`, from the moment the parser is ready to the last shard's commit.

- endpoint: the same with `--endpoint`, asking vLLM's own server on the same model and settings.

The fifth row is the pipeline again, on the same captions, with the model of --against held to the
caption's words.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":
    # The repository, not this folder, so that nothing here hides a library.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import polars as pl

from common.errors import UserError
from common.flags import setting
from parsing.llm import student
from parsing.llm.card import Card
from parsing.llm.models import PROMPT, find_model
from parsing.llm.parser import CONSTRAINTS, LLMConfig, Requests
from parsing.source.captions import unique_captions
from parsing.source.readers import Source
from parsing.tags import FAILED, OK, Parsed
from workflows.benchmarks.measuring import table
from workflows.benchmarks.served import serving
from workflows.command import at_least, run_command

ROOT = Path(__file__).resolve().parents[2]
BARE, RAY, ENDPOINT = "bare", "ray.data.llm", "endpoint"


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Raises:
        UserError: a number below 1.
    """

    captions: str = setting("parsing/sample_captions.tsv", "as in parsing/run.py", metavar="PATH")
    limit: int = setting(600, "only the first N unique captions", metavar="N")
    repeats: int = setting(3, "rounds, of which the medians are shown", metavar="N")
    model: str = setting(student.NAME, "as in parsing/run.py", metavar="NAME")
    constraint: str | None = setting(
        None, "as in parsing/run.py; default is the model's own", choices=CONSTRAINTS
    )
    against: str = setting(
        "smollm2",
        "model whose pipeline is timed as well, with --constraint words; an empty name leaves it out",
        metavar="NAME",
    )
    measure: str | None = setting(None, argparse.SUPPRESS, choices=(BARE, RAY))  # prints one rate

    def __post_init__(self) -> None:
        at_least(self, limit=1, repeats=1)

    def read(self) -> list[str]:
        """The captions."""
        batches = unique_captions(Source((self.captions,)).rows(), self.limit)
        return [
            row.caption
            for rows, _, fresh in batches
            for row, new in zip(rows, fresh, strict=True)
            if new
        ]

    def config(self) -> LLMConfig:
        return LLMConfig(model=find_model(self.model), constraint=self.constraint)


def requests_of(config: LLMConfig, captions: list[str]) -> tuple[list, dict[str, Any]]:
    """What the pipeline asks its engine, (token ids, sampling parameters), and the engine's arguments."""
    from parsing.llm.engine import prepare_environment

    requests = Requests(config)
    settings = config.settings(len(requests.tokens.prefix))
    prepare_environment(settings)
    made = [requests.request(caption) for caption in captions]
    card = Card.here(settings.gpus)
    arguments = settings.arguments(config.model.folder(), config.model.revision, card)
    return [request for request in made if not isinstance(request, Parsed)], arguments


def bare(config: LLMConfig, captions: list[str]) -> float:
    """Captions/s of `vllm.LLM.generate`."""
    asked, arguments = requests_of(config, captions)
    from vllm import LLM

    llm = LLM(**arguments)
    prompts = [{"prompt_token_ids": prompt} for prompt, _ in asked]
    params = [each for _, each in asked]
    llm.generate(prompts[:1], params[:1], use_tqdm=False)
    began = time.monotonic()
    llm.generate(prompts, params, use_tqdm=False)
    seconds = time.monotonic() - began
    llm.llm_engine.engine_core.shutdown()
    return len(captions) / seconds


def ray_data(config: LLMConfig, captions: list[str]) -> float:
    """Captions/s of `ray.data.llm`'s vLLM processor."""
    asked, arguments = requests_of(config, captions)
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    # It asks for logical CPUs for every stage and waits for ever where there are too few.
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="error")
    stages = vLLMEngineProcessorConfig(
        model_source=arguments.pop("model"),
        engine_kwargs={k: v for k, v in arguments.items() if v is not None},
        batch_size=len(asked),
        concurrency=1,
        log_engine_metrics=False,
        placement_group_config={"bundles": [{"CPU": 1}]},  # else it waits for a GPU
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    processor = build_processor(
        stages,
        preprocess=lambda row: row,
        postprocess=lambda row: {"seconds": row["time_taken_llm"]},
    )
    rows = [{"tokenized_prompt": p, "sampling_params": sampling_of(each)} for p, each in asked]
    answers = processor(ray.data.from_items(rows)).take_all()
    ray.shutdown()
    assert len(answers) == len(rows)
    # All rows of a batch are timed from its beginning.
    return len(captions) / max(row["seconds"] for row in answers)


def sampling_of(params: Any) -> dict[str, Any]:
    """vLLM's `SamplingParams` as Ray Data takes them; the constraint only where there is one."""
    plain = {name: getattr(params, name) for name in ("temperature", "max_tokens", "stop")}
    if params.structured_outputs is None:
        return plain
    return plain | {"structured_outputs": {"regex": params.structured_outputs.regex}}


def endpoint(captions: list[str], settings: Settings) -> dict[str, Any]:
    """What a run that asks vLLM's server says of itself, as `pipeline`."""
    config = settings.config()
    prompt = config.model.file(PROMPT) or "default"
    with serving(config, settings.model) as url:
        flags = ["--endpoint", url, "--endpoint-model", settings.model, "--prompt", str(prompt)]
        return pipeline(captions, None, "words" if config.constrained else "none", flags)


def pipeline(
    captions: list[str], model: str | None, constraint: str | None, flags: Sequence[str] = ()
) -> dict[str, Any]:
    """What a run of `parsing/run.py` says of itself, with `rate` (captions/s) and `unread` (a share)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, tags = folder / "captions.jsonl", folder / "tags"
        source.write_text("".join(json.dumps({"caption": c}) + "\n" for c in captions))
        command = [sys.executable, "parsing/run.py", "--captions", str(source)]
        command += ["--output", str(tags), *flags]
        command += ["--model", model] if model else []
        command += ["--constraint", constraint] if constraint else []
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            asked = model or "an endpoint"
            raise UserError(f"parsing with {asked} failed: {done.stderr.strip()[-2000:]}")
        manifest = json.loads((tags / "manifest.json").read_text())
        # An answer that was cut off, or none at all.
        status, error = pl.col("status"), pl.col("error")
        unread = (status == FAILED) | ((status == OK) & error.is_not_null())
        share = pl.read_parquet(tags / "part-*.parquet").select(unread.mean()).item()
    session = manifest["sessions"][-1]
    seconds = session["seconds_to_last_commit"] - session["seconds_to_parsers"]
    return manifest | {"rate": manifest["counts"]["rows"] / seconds, "unread": share}


def in_process(name: str, settings: Settings) -> float:
    """Runs a measurement in a fresh process, so that nothing of an engine is left over."""
    flags = ["--captions", settings.captions, "--limit", str(settings.limit)]
    flags += ["--model", settings.model]
    flags += ["--constraint", settings.constraint] if settings.constraint else []
    done = subprocess.run(
        [sys.executable, __file__, "--measure", name, *flags],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode:
        raise UserError(f"measuring {name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def compare(settings: Settings) -> str:
    """Runs all rows in turns, and returns the table."""
    captions = settings.read()
    if settings.measure:
        return str({BARE: bare, RAY: ray_data}[settings.measure](settings.config(), captions))
    ours, other = f"pipeline, {settings.model}", f"pipeline, {settings.against}, words"
    rates: dict[str, list[float]] = {}
    starts, last, last_other = [], {}, {}
    for _ in range(settings.repeats):
        for name in (BARE, RAY):
            rates.setdefault(name, []).append(in_process(name, settings))
        last = pipeline(captions, settings.model, settings.constraint)
        rates.setdefault(ours, []).append(last["rate"])
        starts.append(last["sessions"][-1]["seconds_to_parsers"])
        asked = endpoint(captions, settings)
        rates.setdefault(ENDPOINT, []).append(asked["rate"])
        if settings.against:
            last_other = pipeline(captions, settings.against, "words")
            rates.setdefault(other, []).append(last_other["rate"])
    medians = {name: median(values) for name, values in rates.items()}
    rows = [("", "captions/s", f"{ours} / it")]
    rows += [(name, f"{one:.1f}", f"{medians[ours] / one:.2f}") for name, one in medians.items()]
    lines = [
        f"{len(captions)} captions, medians of {settings.repeats}, engines of the same settings",
        table(rows),
        f"an endpoint takes {medians[ENDPOINT] / medians[ours]:.0%} of the pipeline's captions/s",
        _about(ours, last),
        _about(ENDPOINT, asked),
        *([_about(other, last_other)] if last_other else []),
        f"from the command to a ready parser, engine load included: {median(starts):.0f} s",
    ]
    return "\n".join(lines)


def _about(name: str, run: dict[str, Any]) -> str:
    counts = run["counts"]
    kept = counts["objects"] + counts["attributes"]
    dropped = counts["dropped_tags"] / max(counts["dropped_tags"] + kept, 1)
    return (
        f"{name}: {counts['prompt_tokens'] / counts['rows']:.1f} tokens in and "
        f"{counts['output_tokens'] / counts['rows']:.1f} out a caption; {dropped:.2%} of the tags "
        f"dropped for words that the caption lacks; {run['unread']:.2%} of the answers not read whole"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, as `run_command`."""
    return run_command(__doc__, Settings, compare, arguments, stopped="stopped")


if __name__ == "__main__":
    sys.exit(main())
