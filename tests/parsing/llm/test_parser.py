"""The LLM parser: what it asks, what makes a run the same, and a real engine under two callers."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace

import pytest
import yaml

from common.errors import UserError
from parsing.llm import models
from parsing.llm.card import Card
from parsing.llm.models import Model, find_model
from parsing.llm.parser import LLMConfig, LLMParser
from parsing.llm.prompt import FOLDER
from parsing.tags import EMPTY, OK, TOO_LONG


def test_another_prompt_or_length_makes_another_run_and_another_machine_does_not(tmp_path):
    base = LLMConfig().fingerprint()
    prompt = yaml.safe_load((FOLDER / "default.yaml").read_text())
    prompt["rules"] += "Be brief.\n"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(prompt))
    assert LLMConfig(prompt=str(tmp_path / "mine.yaml")).fingerprint() != base
    assert LLMConfig(max_caption_tokens=64).fingerprint() != base
    assert LLMConfig(cpus=8, batch=32).fingerprint() == base


def test_a_prompt_travels_as_itself_and_not_as_a_path(tmp_path):
    """On another node the file may be missing, or an older copy of it."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("rules: List what can be seen.\n")
    config = LLMConfig(prompt=str(mine)).pinned()
    fingerprint = config.fingerprint()
    for change in (lambda: mine.write_text("rules: Another.\n"), mine.unlink):
        change()
        arrived = pickle.loads(pickle.dumps(config))
        arrived.check()
        assert arrived.load_prompt().rules == "List what can be seen."
        assert arrived.fingerprint() == fingerprint


def test_an_actor_on_a_node_with_another_copy_of_the_model_does_not_start(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    config = LLMConfig(model=Model(str(tmp_path)), prompt="default").pinned()
    config.check()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="is not the one that this run began with"):
        pickle.loads(pickle.dumps(config)).check()  # what an actor does first


def test_pinning_changes_nothing_of_what_is_run_and_needs_no_second_time():
    for model in ("tagalign-135m", "smollm2"):
        config = LLMConfig(model=find_model(model))
        pinned = config.pinned()
        assert pinned.fingerprint() == config.fingerprint()
        assert pinned.constrained == config.constrained
        assert pinned.pinned() is pinned


def test_a_model_of_the_hub_is_loaded_at_the_commit_of_the_fingerprint(monkeypatch):
    """Its branch may have moved on since, and between tokenizer and weights."""
    commits = iter(["commit of the run", "a later one", "and another"])
    monkeypatch.setattr(Model, "_commit", lambda model: model.revision or next(commits))
    monkeypatch.setattr(models, "_hub_file", lambda *_: None)
    config = LLMConfig(model=Model("org/model")).pinned()
    assert config.fingerprint()["revision"] == "commit of the run"
    loaded = []

    class Tokenizer:
        def from_pretrained(self, **where):
            loaded.append(where["revision"])
            raise OSError("far enough")

    monkeypatch.setattr("transformers.AutoTokenizer", Tokenizer())
    for each in (config, pickle.loads(pickle.dumps(config))):
        each.check()
        with pytest.raises(UserError, match="far enough"):
            LLMParser(each)
    assert loaded == ["commit of the run"] * 2
    arguments = config.settings(0).arguments("m", config.model.revision, Card())
    assert arguments["revision"] == loaded[0]


def test_a_model_for_two_gpus_needs_them():
    with pytest.raises(UserError, match="span 2 GPUs"):
        LLMConfig(model=find_model("vicuna-33b"))
    resources = LLMConfig(model=find_model("vicuna-33b"), gpu=True).resources()
    assert (resources.cpus, resources.gpus) == (1, 2)


def test_a_prompt_that_is_not_there_is_told_before_anything_loads():
    with pytest.raises(UserError, match="there is no prompt"):
        LLMConfig(prompt="nothing").check()


def test_engine_settings_make_room_for_the_longest_caption_and_answer():
    config = LLMConfig(max_caption_tokens=300)
    settings = config.settings(prefix_tokens=500)
    assert settings.context >= 500 + 300 + 2 * 300
    assert settings.context % 32 == 0


def test_the_constraint_follows_the_model_unless_it_is_named():
    assert not LLMConfig().constrained  # the student was trained for the task
    assert LLMConfig(model=find_model("smollm2")).constrained
    assert LLMConfig(constraint="words").constrained
    assert not LLMConfig(model=find_model("smollm2"), constraint="none").constrained
    assert LLMConfig(constraint="words").fingerprint() != LLMConfig().fingerprint()
    with pytest.raises(UserError, match="there is no constraint 'grammar'"):
        LLMConfig(constraint="grammar")


def test_a_manifest_names_what_the_student_was_trained_on():
    about = LLMConfig().about()
    assert about["model"] == "tagalign-135m"
    parts = [part["provenance"] for part in about["provenance"]["averaged_with"]]
    names = {source["name"] for part in parts for source in part["sources"]}
    assert names == {"web_train.jsonl", "web_more.jsonl", "factual_train.csv"}


def test_prefix_caching_is_off_where_prompts_share_less_than_a_block():
    config = LLMConfig()
    for prefix, wanted in ((2, False), (400, True)):
        arguments = config.settings(prefix_tokens=prefix).arguments("m", None, Card())
        assert arguments["enable_prefix_caching"] == wanted


def test_batch_invariance_makes_another_run_and_is_refused_without_gpus():
    config = LLMConfig(gpu=True)
    assert replace(config, batch_invariant=True).fingerprint() != config.fingerprint()
    assert replace(config, batch_invariant=True).settings(0).batch_invariant
    with pytest.raises(UserError, match="--batch-invariant needs GPUs: vLLM's kernels for CPUs"):
        LLMConfig(batch_invariant=True)


def test_engine_arguments_stand_in_the_manifest_and_in_the_fingerprint_if_they_change_answers():
    base = LLMConfig()
    faster = LLMConfig(engine=("max-num-batched-tokens=8k", "enable_prefix_caching=false"))
    assert faster.fingerprint() == base.fingerprint()
    assert faster.about()["engine"] == {
        "max_num_batched_tokens": "8k",
        "enable_prefix_caching": "false",
    }
    other = LLMConfig(engine=("quantization=fp8", "max_num_batched_tokens=8k"))
    assert other.fingerprint() == base.fingerprint() | {"engine": {"quantization": "fp8"}}
    with pytest.raises(UserError, match="--engine hf_token is not offered: set HF_TOKEN"):
        LLMConfig(engine=("hf_token=secret",))


@pytest.mark.engine
@pytest.mark.parametrize("constraint", ["none", "words"])
def test_two_threads_get_the_answers_to_their_own_captions(constraint):
    """And the same ones as alone: greedy decoding, batch or no batch."""
    parser = LLMParser(LLMConfig(max_caption_tokens=32, constraint=constraint))
    try:
        captions = [
            ["a black dog on a red sofa", "two white boats", "\U0001f600", "a cat " * 40],
            ["an old wooden bridge", "green apples in a glass bowl"],
        ]
        alone = [parser.parse(each) for each in captions]
        together: list = [None, None]

        def ask(n: int) -> None:
            together[n] = parser.parse(captions[n])

        threads = [threading.Thread(target=ask, args=(n,)) for n in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [[p.objects for p in each] for each in together] == [
            [p.objects for p in each] for each in alone
        ]
        assert [p.status for p in together[0]] == [OK, OK, EMPTY, TOO_LONG]
        assert together[0][0].objects == ["dog", "sofa"]
        assert ("black", "dog") in together[0][0].attributes
        captions_done, tokens = parser.tally()
        assert captions_done == 8
        assert tokens > 8
    finally:
        parser.close()


@pytest.mark.engine
def test_a_broken_model_ends_the_start_with_the_engines_own_reason(tmp_path):
    from parsing.llm.embedded_model import embedded_model

    for file in embedded_model().iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=r"the engine did not start: .*(weights|safetensors)"):
        LLMParser(LLMConfig(model=Model(str(tmp_path))))
