"""Models: presets, hub ids and folders, and what tells one's weights from another's."""

from __future__ import annotations

import json
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub import errors as hub

from common.errors import UserError
from parsing.llm.embedded_model import NAME, WHEEL_SHA256
from parsing.llm.models import Model, find_model


def test_presets_go_by_their_names_and_anything_else_is_a_hub_id_or_a_folder(tmp_path):
    assert find_model("smollm2") == Model(NAME)
    vicuna = find_model("vicuna-33b")
    assert (vicuna.source, vicuna.tensor_parallel) == ("lmsys/vicuna-33b-v1.3", 2)
    assert find_model("Qwen/Qwen3-8B") == Model("Qwen/Qwen3-8B")
    assert find_model(str(tmp_path)).folder() == str(tmp_path)


def test_every_vicuna_is_spoken_to_as_one_because_its_tokenizer_does_not_say_how():
    assert find_model("lmsys/vicuna-7b-v1.5").conversation == "vicuna"
    assert find_model("/models/Vicuna-13B").conversation == "vicuna"
    assert find_model("vicuna-33b").conversation == "vicuna"
    assert find_model("Qwen/Qwen3-8B").conversation is None


def test_flags_change_a_preset():
    model = find_model("vicuna-33b", revision="abc", tensor_parallel=4)
    assert (model.revision, model.tensor_parallel) == ("abc", 4)
    with pytest.raises(UserError, match="--tensor-parallel must be at least 1, not 0"):
        find_model("vicuna-33b", tensor_parallel=0)


def test_the_digest_of_a_folder_goes_by_its_files_and_not_by_its_place(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"1" * 100)
    digest = Model(str(folder)).digest()
    (folder / ".cache").mkdir()
    (folder / ".gitattributes").write_text("x")
    folder.rename(tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere"
    assert Model(str(folder)).digest() == digest
    (folder / "model.safetensors").write_bytes(b"2" * 100)
    other = Model(str(folder)).digest()
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert len({digest, other, Model(str(folder)).digest()}) == 3


def test_weights_that_differ_where_training_reached_them_are_told_apart(tmp_path):
    """The first tens of megabytes are embeddings, the same in all trainings of one model."""
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(24 << 20))
    before = Model(str(tmp_path)).digest()
    with open(weights, "r+b") as file:
        file.seek(12 << 20)
        file.write(b"\1" * (1 << 20))
    assert Model(str(tmp_path)).digest() != before


def test_a_node_whose_folder_holds_another_model_is_told_in_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    model = Model(str(tmp_path)).pinned()
    model.check()
    assert model.revision is None
    (tmp_path / "config.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"is not the one that this run began with") as told:
        model.check()
    assert "\n" not in str(told.value)
    Model(str(tmp_path)).check()  # nothing is expected of it


def test_a_pinned_model_of_the_hub_names_its_commit_as_its_revision(cache):
    assert Model("org/model").pinned() == Model("org/model", revision=cache, expected=cache)


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(UserError, match=r"is not a model: it has no config.json"):
        Model(str(tmp_path)).digest()


def test_the_embedded_model_is_told_by_its_wheel_and_nothing_is_fetched_for_it():
    assert find_model("smollm2").digest() == WHEEL_SHA256


def test_a_model_brings_the_prompt_it_was_trained_with(tmp_path, cache):
    assert Model(str(tmp_path)).file("prompt.yaml") is None
    (tmp_path / "prompt.yaml").write_text("conversation: plain")
    assert Model(str(tmp_path)).file("prompt.yaml") == tmp_path / "prompt.yaml"
    assert find_model("smollm2").file("prompt.yaml") is None
    assert Model("org/model").file("prompt.yaml") is None  # not in the cache, and no network


def test_a_student_that_was_cut_off_is_told_with_the_file_that_lacks(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tagalign.json").write_text(json.dumps({"files": {"config.json": 2}}))
    assert Model(str(tmp_path)).provenance() == {"files": {"config.json": 2}}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"is incomplete: config.json has 1 of 2 bytes"):
        Model(str(tmp_path)).provenance()
    (tmp_path / "tagalign.json").write_text("{")
    with pytest.raises(UserError, match="cannot read the provenance"):
        Model(str(tmp_path)).provenance()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache as a download of `org/model` leaves it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--org--model"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    return commit


def test_a_model_of_the_hub_is_told_by_its_commit_also_without_a_network(cache):
    assert Model("org/model").digest() == cache
    assert Model("org/model", revision=cache).digest() == cache


@pytest.mark.parametrize(
    ("source", "revision", "sentence"),
    [
        ("nobody/nothing", None, "not in the Hugging Face cache, and the hub cannot be reached"),
        ("org/model", "v2", "not in the Hugging Face cache, and the hub cannot be reached"),
        ("no model, a sentence", None, "not a local folder, and not on the Hugging Face hub"),
        ("/no/such/folder", None, "not a local folder, and not on the Hugging Face hub"),
    ],
)
def test_a_model_that_is_nowhere_is_told_in_one_sentence(cache, source, revision, sentence):
    with pytest.raises(UserError, match=f"^there is no model '{source}': .*{sentence}") as told:
        Model(source, revision).digest()
    assert "presets: tagalign-135m, smollm2, vicuna-33b" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (hub.GatedRepoError, "the model 'org/model' is gated: ask for access"),
        (hub.RevisionNotFoundError, "the model 'org/model' has no revision v2"),
        (hub.RepositoryNotFoundError, "not a local folder, and not on the Hugging Face hub"),
        (hub.RemoteEntryNotFoundError, "not a local folder, and not on the Hugging Face hub"),
    ],
)
def test_what_the_hub_answers_is_told_in_one_sentence(monkeypatch, answer, sentence):
    def download(*_, **__):
        raise answer("401 Client Error.\nmore", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=sentence):
        Model("org/model", "v2").digest()
