"""The pipeline's captions/s beside a bare vLLM and beside Ray Data's LLM processor.

    python workflows/benchmarks/parse.py --captions cc3m_val.tsv --limit 600 --repeats 3

All three answer the same prompts with the same sampling parameters on engines of the same
settings, each in a process of its own, and loading the engine counts for none of them:

- bare: one call of `vllm.LLM.generate` with every prompt, after one prompt sent ahead;
- ray.data.llm: its engine stage given every prompt as one batch, from the batch's beginning to its
  last answer, by its own clock: what lies before and behind that stage counts for nothing;
- pipeline: `parsing/run.py`, from the moment the parser is ready to the last shard's commit.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import pyarrow.parquet as pq

from parsing.captions import unique_captions
from parsing.llm_parser import LLMConfig, Requests
from parsing.readers import Source
from parsing.tags import OK, Parsed

ROOT = Path(__file__).resolve().parents[2]


def read_captions(path: str, limit: int) -> list[str]:
    batches = unique_captions(Source((path,)).rows(), limit)
    return [
        r.caption for rows, _, fresh in batches for r, new in zip(rows, fresh, strict=True) if new
    ]


def requests_of(captions: list[str]):
    config = LLMConfig()
    maker = Requests(config)
    made = [maker.request(caption) for caption in captions]
    asked = [request for request in made if not isinstance(request, Parsed)]
    arguments = config.settings(len(maker.tokens.prefix)).arguments(config.model.folder(), None)
    return asked, arguments


def bare(captions: list[str]) -> float:
    """Captions/s of `vllm.LLM.generate`."""
    from vllm import LLM

    from parsing.engine import prepare_environment

    asked, arguments = requests_of(captions)
    prepare_environment(LLMConfig().settings(0))
    llm = LLM(**arguments)
    prompts = [{"prompt_token_ids": prompt} for prompt, _ in asked]
    params = [each for _, each in asked]
    llm.generate(prompts[:1], params[:1], use_tqdm=False)
    began = time.monotonic()
    llm.generate(prompts, params, use_tqdm=False)
    seconds = time.monotonic() - began
    llm.llm_engine.engine_core.shutdown()
    return len(captions) / seconds


def ray_data(captions: list[str]) -> float:
    """Captions/s of `ray.data.llm`'s vLLM processor."""
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from parsing.engine import prepare_environment

    asked, arguments = requests_of(captions)
    prepare_environment(LLMConfig().settings(0))
    # It asks for logical CPUs for every stage and waits for ever where there are too few.
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="error")
    config = vLLMEngineProcessorConfig(
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
    rows = [
        {
            "tokenized_prompt": prompt,
            "sampling_params": {
                "temperature": each.temperature,
                "max_tokens": each.max_tokens,
                "stop": each.stop,
                "structured_outputs": {"regex": each.structured_outputs.regex},
            },
        }
        for prompt, each in asked
    ]
    processor = build_processor(
        config,
        preprocess=lambda row: row,
        postprocess=lambda row: {"seconds": row["time_taken_llm"]},
    )
    answers = processor(ray.data.from_items(rows)).take_all()
    ray.shutdown()
    assert len(answers) == len(rows)
    # All rows of a batch are timed from its beginning.
    return len(captions) / max(row["seconds"] for row in answers)


def pipeline(captions: list[str], folder: Path) -> tuple[float, dict]:
    """Captions/s of `parsing/run.py`, and what the run says of itself."""
    source = folder / "captions.jsonl"
    source.write_text("".join(json.dumps({"caption": c}) + "\n" for c in captions))
    command = [sys.executable, "parsing/run.py", "--captions", source, "--output", folder / "tags"]
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True, capture_output=True)
    manifest = json.loads((folder / "tags" / "manifest.json").read_text())
    session = manifest["sessions"][-1]
    seconds = session["seconds_to_last_commit"] - session["seconds_to_parsers"]
    return manifest["counts"]["rows"] / seconds, manifest | grounding(folder / "tags")


def grounding(folder: Path) -> dict[str, float]:
    """Share of tags with a word that the caption lacks, and of answers that could not be read."""
    tags = ungrounded = unread = rows = 0
    for part in sorted(folder.glob("part-*.parquet")):
        for row in pq.read_table(part).to_pylist():
            rows += 1
            unread += row["status"] == "failed" or (
                row["status"] == OK and row["error"] is not None
            )
            caption = " ".join(re.findall(r"\w+", row["caption"].lower()))
            for tag in [*row["objects"], *(pair["attribute"] for pair in row["attributes"])]:
                tags += 1
                # A singular stands for the plural that the caption has: compare stems.
                stems = [word[: max(3, len(word) - 3)] for word in re.findall(r"\w+", tag)]
                ungrounded += not all(stem in caption for stem in stems)
    return {"ungrounded": ungrounded / max(tags, 1), "unread": unread / max(rows, 1)}


def in_process(name: str, flags: argparse.Namespace) -> float:
    """Runs a measurement in a fresh process, so that nothing of an engine is left over."""
    command = [sys.executable, __file__, "--measure", name, "--captions", flags.captions]
    done = subprocess.run(
        [*command, "--limit", str(flags.limit)], capture_output=True, text=True, timeout=1800
    )
    if done.returncode:
        raise SystemExit(f"measuring {name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", default=str(ROOT / "parsing" / "sample_captions.tsv"))
    parser.add_argument("--limit", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=("bare", "ray.data.llm"), help="print one rate only")
    flags = parser.parse_args(arguments)
    captions = read_captions(flags.captions, flags.limit)
    if flags.measure:
        print({"bare": bare, "ray.data.llm": ray_data}[flags.measure](captions))
        return 0
    rates: dict[str, list[float]] = {"bare": [], "ray.data.llm": [], "pipeline": []}
    starts, last = [], {}
    for _ in range(flags.repeats):
        rates["bare"].append(in_process("bare", flags))
        rates["ray.data.llm"].append(in_process("ray.data.llm", flags))
        with tempfile.TemporaryDirectory() as folder:
            rate, last = pipeline(captions, Path(folder))
        rates["pipeline"].append(rate)
        session, counts = last["sessions"][-1], last["counts"]
        starts.append(session["seconds_to_parsers"])
    ours = median(rates["pipeline"])
    print(f"{len(captions)} captions, medians of {flags.repeats}, engines of the same settings")
    print(f"{'':16}{'captions/s':>12}{'pipeline / it':>15}")
    for name, values in rates.items():
        print(f"{name:16}{median(values):12.1f}{ours / median(values):15.2f}")
    print(f"tokens out a caption: {counts['output_tokens'] / counts['rows']:.1f}")
    print(f"tags that name something their caption doesn't: {last['ungrounded']:.2%}")
    print(f"answers that could not be read: {last['unread']:.2%}")
    print(f"from the command to a ready parser, engine load included: {median(starts):.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
