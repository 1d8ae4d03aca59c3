"""The student of several trainings is their mean, at the rank of one of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from common.errors import UserError
from parsing.distillation import members
from parsing.distillation.examples import Example, Examples
from parsing.distillation.members import (
    mean_adapter,
    mean_weights,
    read_others,
    read_start,
    train_members,
)
from parsing.distillation.settings import DistillSettings
from parsing.distillation.student_folder import card, provenance
from parsing.distillation.training import load_model

SOURCES = [
    Examples("web", 2.0, [Example(f"a red car {n}", "red: car") for n in range(8)]),
    Examples("factual", 0.5, [Example(f"two dogs {n}", "dogs") for n in range(32)]),
]


@pytest.fixture
def settings(tmp_path):
    return DistillSettings(
        gold=("g",), output=str(tmp_path / "student"), batch=4, lr=1e-2, rank=4, members=2
    )


def adapter(rank, inputs, outputs, seed):
    rng = torch.Generator().manual_seed(seed)
    return {
        "layer.lora_A.weight": torch.randn(rank, inputs, generator=rng),
        "layer.lora_B.weight": torch.randn(outputs, rank, generator=rng),
    }


def product(weights):
    return weights["layer.lora_B.weight"] @ weights["layer.lora_A.weight"]


def test_a_mean_that_fits_the_rank_is_exact():
    first = adapter(4, 12, 9, 0)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q  # the same product from other factors
    second = {
        "layer.lora_A.weight": turn.T @ first["layer.lora_A.weight"],
        "layer.lora_B.weight": 3 * first["layer.lora_B.weight"] @ turn,
    }
    torch.testing.assert_close(
        product(mean_adapter([first, second], [1, 1], 4)), 2 * product(first)
    )


@pytest.mark.parametrize(("inputs", "outputs"), [(30, 20), (30, 7), (3, 20)])
def test_a_mean_beyond_the_rank_is_the_nearest_of_that_rank(inputs, outputs):
    own = [adapter(4, inputs, outputs, seed) for seed in range(3)]
    found = mean_adapter(own, [2, 0.5, 1], 4)
    assert found["layer.lora_A.weight"].shape == (4, inputs)
    assert found["layer.lora_B.weight"].shape == (outputs, 4)
    mean = (2 * product(own[0]) + 0.5 * product(own[1]) + product(own[2])) / 3.5
    u, s, v = torch.linalg.svd(mean, full_matrices=False)
    nearest = u[:, :4] * s[:4] @ v[:4]
    torch.testing.assert_close(product(found), nearest, atol=1e-4, rtol=1e-4)


def test_weights_are_averaged():
    own = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 6.0])}]
    assert mean_weights(own)["w"].tolist() == [2.0, 4.0]


@pytest.mark.parametrize("full", [False, True])
def test_the_student_is_the_mean_of_members_that_differ(
    full, tiny_model, tokens, settings, monkeypatch
):
    learned, told = [], members._learned
    monkeypatch.setattr(
        members, "_learned", lambda model: learned.append(told(model)) or told(model)
    )
    settings = replace(settings, full=full)
    model = train_members(settings, str(tiny_model), None, tokens, SOURCES)
    assert len(learned) == 2
    assert any((learned[0][name] != learned[1][name]).any() for name in learned[0])
    expected = mean_weights(learned) if full else mean_adapter(learned, [1, 1], 4)
    assert isinstance(model, PeftModel) is not full
    for name, value in told(model).items():
        torch.testing.assert_close(value.float(), expected[name], msg=name)


def test_a_finished_member_is_not_trained_again(tiny_model, tokens, settings, monkeypatch):
    whole = replace(settings, output=settings.output + "-whole")
    expected = train_members(whole, str(tiny_model), None, tokens, SOURCES)
    train, begun = members.train, []

    def stop_second(member, *rest):
        begun.append(member.folder.name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(member, *rest)

    monkeypatch.setattr(members, "train", stop_second)
    with pytest.raises(KeyboardInterrupt):
        train_members(settings, str(tiny_model), None, tokens, SOURCES)
    again = train_members(settings, str(tiny_model), None, tokens, SOURCES)
    assert begun == ["member-0", "member-1", "member-1"]
    for (name, value), other in zip(
        expected.state_dict().items(), again.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(other, value, msg=name)


def test_members_are_added_and_those_of_other_settings_refused(
    tiny_model, tokens, settings, monkeypatch
):
    train_members(settings, str(tiny_model), None, tokens, SOURCES)
    train, begun = members.train, []

    def count(member, *rest):
        begun.append(member.folder.name)
        return train(member, *rest)

    monkeypatch.setattr(members, "train", count)
    train_members(replace(settings, members=3), str(tiny_model), None, tokens, SOURCES)
    assert begun == ["member-2"]
    with pytest.raises(UserError, match="holds a training with other settings or data"):
        train_members(replace(settings, lr=1e-3), str(tiny_model), None, tokens, SOURCES)


class Base:
    """A base model that was found already."""

    source = "tiny"

    @staticmethod
    def digest():
        return "abc"


@pytest.fixture
def student(tmp_path, tiny_model, settings):
    """A finished student's folder: its adapter and its provenance."""
    folder = tmp_path / "earlier"
    model = load_model(replace(settings, seed=7), str(tiny_model), None)
    rng = torch.Generator().manual_seed(7)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            value.data.copy_(torch.randn(value.shape, generator=rng))
    model.save_pretrained(folder / "adapter")
    (folder / "tagalign.json").write_text(json.dumps({"base": {"digest": "abc"}, "sources": []}))
    return folder


def test_an_earlier_student_counts_as_more_members(tiny_model, tokens, settings, student):
    settings = replace(settings, members=1, average_with=(f"{student}:2",))
    others = read_others(settings, Base)
    assert others[0].provenance["sources"] == []
    model = train_members(settings, str(tiny_model), None, tokens, SOURCES, others)
    own = load_file(settings.training_folder / "member-0.safetensors")
    found = members._learned(model)
    expected = mean_adapter([own, others[0].weights], [1, 2], 4)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], msg=name, atol=1e-4, rtol=1e-3)
    assert (found["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"] != 0).any()


def test_a_mean_of_earlier_students_trains_nothing(tiny_model, tokens, settings, student):
    settings = replace(settings, members=0, average_with=(str(student),))
    others = read_others(settings, Base)
    model = train_members(settings, str(tiny_model), None, tokens, SOURCES, others)
    for name, value in members._learned(model).items():
        if "lora_B" in name:  # one adapter's product from other factors
            a = name.replace("lora_B", "lora_A")
            expected = others[0].weights[name] @ others[0].weights[a]
            found = value @ members._learned(model)[a]
            torch.testing.assert_close(found, expected, msg=name, atol=1e-4, rtol=1e-3)
    about = provenance(settings, Base, SOURCES, others, None)
    assert about["sources"] == []
    about["base"]["model"] = "tiny"
    assert "- averaged with the student earlier, weight 1" in card(settings, about, None)


def test_a_training_goes_on_from_an_earlier_student(tiny_model, tokens, settings, student):
    settings = replace(settings, members=1, start_from=str(student), lr=1e-9)
    start = read_start(settings, Base)
    model = train_members(settings, str(tiny_model), None, tokens, SOURCES, start=start)
    assert start.weights
    for name, value in members._learned(model).items():
        torch.testing.assert_close(value, start.weights[name], msg=name, atol=1e-5, rtol=1e-3)
    whole = replace(settings, lr=1e-2, output=settings.output + "-learned")
    learned = train_members(whole, str(tiny_model), None, tokens, SOURCES, start=start)
    assert any(
        (members._learned(learned)[n] - v).abs().max() > 1e-3 for n, v in start.weights.items()
    )


def test_a_training_from_another_student_is_another_training(tiny_model, tokens, settings, student):
    settings = replace(settings, start_from=str(student))
    start = read_start(settings, Base)
    train_members(settings, str(tiny_model), None, tokens, SOURCES, start=start)
    other = replace(start, digest="other")
    with pytest.raises(UserError, match="holds a training with other settings or data"):
        train_members(settings, str(tiny_model), None, tokens, SOURCES, start=other)


def test_a_student_that_cannot_be_trained_on_is_told(settings, student):
    with pytest.raises(UserError, match=r"--start-from .*: its adapter has rank 4; give --rank 4"):
        read_start(replace(settings, start_from=str(student), rank=8), Base)
    with pytest.raises(UserError, match=r"--start-from .*: no adapter can be read there"):
        read_start(replace(settings, start_from=str(student / "none")), Base)
    with pytest.raises(UserError, match="--start-from trains an adapter on: leave --full out"):
        replace(settings, full=True, start_from=str(student))
    assert read_start(settings, Base) is None


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: shutil.rmtree(folder), "no adapter can be read there"),
        (
            lambda folder: (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"half"),
            "no adapter can be read there",
        ),
        (lambda folder: (folder / "tagalign.json").write_text("{"), "no adapter can be read there"),
        (lambda folder: (folder / "tagalign.json").unlink(), "its base model is not tiny"),
        (
            lambda folder: (folder / "tagalign.json").write_text('{"base": {"digest": "other"}}'),
            "its base model is not tiny",
        ),
        (
            lambda folder: (folder / "adapter" / "adapter_config.json").write_text(
                '{"r": 4, "lora_alpha": 4}'
            ),
            "its adapter is scaled by 1, not by 2",
        ),
    ],
)
def test_a_student_that_cannot_be_averaged_is_told(harm, told, settings, student):
    harm(student)
    with pytest.raises(UserError, match=told) as error:
        read_others(replace(settings, average_with=(str(student),)), Base)
    assert "\n" not in str(error.value)


def test_all_weights_are_not_averaged_with_adapters(settings):
    with pytest.raises(UserError, match="--average-with averages adapters: leave --full out"):
        replace(settings, full=True, average_with=("x",))
