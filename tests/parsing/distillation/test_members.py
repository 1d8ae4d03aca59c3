"""The student of several trainings is their mean, at the rank of one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import PeftModel

from common.errors import UserError
from parsing.distillation import members
from parsing.distillation.examples import Example, Examples
from parsing.distillation.members import mean_adapter, mean_weights, train_members
from parsing.distillation.settings import DistillSettings

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
    torch.testing.assert_close(product(mean_adapter([first, second])), 2 * product(first))


@pytest.mark.parametrize(("inputs", "outputs"), [(30, 20), (30, 7), (3, 20)])
def test_a_mean_beyond_the_rank_is_the_nearest_of_that_rank(inputs, outputs):
    own = [adapter(4, inputs, outputs, seed) for seed in range(3)]
    found = mean_adapter(own)
    assert found["layer.lora_A.weight"].shape == (4, inputs)
    assert found["layer.lora_B.weight"].shape == (outputs, 4)
    u, s, v = torch.linalg.svd(sum(product(each) for each in own) / 3, full_matrices=False)
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
    expected = mean_weights(learned) if full else mean_adapter(learned)
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
