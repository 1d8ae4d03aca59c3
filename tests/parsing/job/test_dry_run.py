"""`--dry-run`: the prompt, the tokens and the estimate, and nothing parsed."""

from __future__ import annotations

import re

import pytest
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from common.errors import UserError
from parsing.endpoint.parser import EndpointConfig
from parsing.endpoint.server import Server
from parsing.fake_parser import FakeConfig
from parsing.job.dry_run import GPU_BYTES, GPU_FLOPS, dry_run
from parsing.llm.models import Model
from parsing.llm.parser import LLMConfig
from parsing.llm.prompt import load_prompt
from parsing.source.captions import Selection
from parsing.source.readers import Source
from tests.byte_tokenizer import byte_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    """A model's folder with a tokenizer of one token a byte and no weights."""
    folder = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer()).save_pretrained(folder)
    LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    ).save_pretrained(folder)
    return Model(str(folder))


@pytest.fixture
def source(tmp_path) -> Source:
    path = tmp_path / "captions.tsv"
    lines = [f"u{n}\ta dog number {n % 70:02}" for n in range(100)]
    path.write_text("\n".join([*lines, "u\t", "u\t123", "only one column"]) + "\n")
    return Source((str(path),))


def test_the_prompt_of_three_captions_is_shown_as_the_model_would_see_it(model, source):
    report = dry_run(source, Selection(shard_size=30), LLMConfig(model=model))
    lines = report.splitlines()
    assert lines[0] == (
        "73 unique captions in shards of 30: 3 of them; "
        "3 need no parser (no word, too long or malformed)"
    )
    tokens = LLMConfig(model=model).tokens()
    for caption in ("a dog number 00", "a dog number 01", "a dog number 02"):
        assert tokens.text(caption) in report
    assert "a dog number 03" not in report
    heads = re.findall(r"^--- (\d+) shared tokens and (\d+) of its own$", report, re.MULTILINE)
    assert len(heads) == 3
    # One token a byte: the counts can be checked against the text itself.
    shown = tokens.text("a dog number 00")
    assert {sum(map(int, head)) for head in heads} == {len(shown.encode())}


def test_the_estimate_is_the_arithmetic_it_says(model, source):
    config = LLMConfig(model=model, gpu=True, batch=100)
    report = dry_run(source, Selection(), config)
    layer = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
    weights = 2 * layer + 2 * 256 * 64 + 64
    total = 70
    found = re.search(r"([\d.]+) prompt tokens a caption .*, ([\d.]+) M in all", report)
    own = float(found[1])
    assert float(found[2]) == pytest.approx(total * own / 1e6, abs=0.005)
    tokenizer = AutoTokenizer.from_pretrained(model.source)
    answers = [len(tokenizer.encode(e.answer)) for e in load_prompt("default").examples]
    out = sum(answers) / len(answers)
    assert f"about {out:.0f} tokens out a caption" in report
    rate = 1 / (2 * weights * (own + out) / GPU_FLOPS + 2 * weights * out / GPU_BYTES / 100)
    said = re.search(r"([\d.]+) B weights: ([\d,]+) captions/s an engine, 0 s with one", report)
    assert float(said[2].replace(",", "")) == pytest.approx(rate, rel=0.01)
    assert float(said[1]) == pytest.approx(weights / 1e9, abs=0.005)
    assert "GPU-hours" in report


def test_limit_and_sample_choose_as_they_do_in_the_run(model, source):
    report = dry_run(source, Selection(limit=5), FakeConfig())
    assert report.startswith("5 unique captions in shards of 2,000: 1 of them; 0 need no parser")


def test_a_parser_without_a_prompt_shows_its_first_captions(source):
    report = dry_run(source, Selection(), FakeConfig())
    assert report.splitlines()[1:] == [
        "parser fake: no prompt; the first captions:",
        *[f"a dog number 0{n}" for n in range(3)],
    ]


def test_what_would_stop_the_run_stops_here_too(model, source, tmp_path):
    empty = tmp_path / "empty.tsv"
    empty.touch()
    with pytest.raises(UserError, match=r"there are no captions in .*empty.tsv"):
        dry_run(Source((str(empty),)), Selection(), FakeConfig())
    with pytest.raises(UserError, match="there is no model 'nobody/nothing'"):
        dry_run(source, Selection(), LLMConfig(model=Model("nobody/nothing")))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot load the tokenizer of") as told:
        dry_run(source, Selection(), LLMConfig(model=Model(str(tmp_path))))
    assert "\n" not in str(told.value)


def test_captions_that_need_no_parser_need_no_estimate(model, tmp_path):
    path = tmp_path / "numbers.tsv"
    path.write_text("u\t1\nu\t2\n")
    report = dry_run(Source((str(path),)), Selection(), LLMConfig(model=model))
    assert report.startswith("2 unique captions")
    assert report.endswith("no caption to parse")


def test_a_dry_run_for_a_server_shows_what_it_would_be_asked(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text("a\ta red house\n")
    config = EndpointConfig(Server("http://h:1", "m"), "student")
    report = dry_run(Source((str(path),)), Selection(), config)
    assert "--- to http://h:1/v1/completions" in report
    assert '"prompt": "Caption: a red house\\n"' in report
