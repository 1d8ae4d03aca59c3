"""The parse benchmark asks every side the same, and its table compares with the pipeline."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from workflows.benchmarks import parse
from workflows.benchmarks.parse import Settings, compare, main, sampling_of


def params(regex: str | None) -> SimpleNamespace:
    outputs = SimpleNamespace(regex=regex) if regex else None
    return SimpleNamespace(temperature=0.0, max_tokens=9, stop=["\n"], structured_outputs=outputs)


def test_ray_data_gets_the_constraint_only_where_the_pipeline_has_one():
    plain = {"temperature": 0.0, "max_tokens": 9, "stop": ["\n"]}
    assert sampling_of(params(None)) == plain
    assert sampling_of(params("a|b")) == plain | {"structured_outputs": {"regex": "a|b"}}


@pytest.fixture
def asked(monkeypatch) -> list:
    """Replaces the engines by fixed rates; keeps what each pipeline was asked to run."""
    asked = []
    counts = {"rows": 10, "objects": 6, "attributes": 3, "dropped_tags": 1}
    counts |= {"prompt_tokens": 250, "output_tokens": 60}

    def pipeline(captions, model, constraint, flags=()):
        asked.append((len(captions), model, constraint, *flags))
        sessions = [{"seconds_to_parsers": 4.0}]
        rate = {"student": 30.0, "smollm2": 20.0, None: 28.5}[model]
        return {"rate": rate, "unread": 0.1, "counts": counts, "sessions": sessions}

    @contextlib.contextmanager
    def serving(config, name):
        yield f"http://{name}/v1"

    monkeypatch.setattr(parse, "serving", serving)
    monkeypatch.setattr(parse, "pipeline", pipeline)
    monkeypatch.setattr(parse, "in_process", lambda name, settings: {"bare": 32.0}.get(name, 25.0))
    return asked


def test_both_pipelines_parse_the_same_captions_in_one_run(asked, root, monkeypatch):
    monkeypatch.chdir(root)
    text = compare(Settings(model="student", constraint="none", limit=10, repeats=2))
    served = (
        "--endpoint",
        "http://student/v1",
        "--endpoint-model",
        "student",
        "--prompt",
        "default",
    )
    assert (
        asked
        == [
            (10, "student", "none"),
            (10, None, "none", *served),
            (10, "smollm2", "words"),
        ]
        * 2
    )
    rows = {line.rsplit(maxsplit=2)[0]: line.split()[-2:] for line in text.splitlines()[2:7]}
    assert rows == {
        "bare": ["32.0", "0.94"],
        "ray.data.llm": ["25.0", "1.20"],
        "pipeline, student": ["30.0", "1.00"],
        "endpoint": ["28.5", "1.05"],
        "pipeline, smollm2, words": ["20.0", "1.50"],
    }
    assert "an endpoint takes 95% of the pipeline's captions/s" in text
    assert "25.0 tokens in and 6.0 out a caption; 10.00% of the tags dropped" in text


def test_the_other_model_can_be_left_out(asked, root, monkeypatch):
    monkeypatch.chdir(root)
    text = compare(Settings(model="student", against="", limit=5, repeats=1))
    assert [each[:2] for each in asked] == [(5, "student"), (5, None)]
    assert "smollm2" not in text


def test_bad_flags_are_one_sentence(capsys):
    assert main(["--repeats", "0"]) == 2
    assert capsys.readouterr().err == "error: --repeats is at least 1, not 0\n"
