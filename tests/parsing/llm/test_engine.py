"""Settings of an engine: what is set on purpose, what follows the card, what the user overrides."""

from __future__ import annotations

import pytest

from common.errors import UserError
from parsing.llm import engine
from parsing.llm.card import GIB, Card
from parsing.llm.engine import EngineSettings, prepare_environment

H100 = Card("bfloat16", 16_384, batch_invariant=True)
T4 = Card("float16", 8192)


def test_a_gpu_engine_gets_its_share_of_memory_and_no_settings_of_the_cpu():
    arguments = EngineSettings(gpus=2, tensor_parallel=2).arguments("m", None, H100)
    assert arguments["tensor_parallel_size"] == 2
    assert arguments["gpu_memory_utilization"] == 0.92
    assert not {"block_size", "enforce_eager"} & arguments.keys()


@pytest.mark.parametrize("card", [H100, T4], ids=["H100", "T4"])
def test_the_dtype_is_one_that_the_card_computes_in(card):
    assert EngineSettings(gpus=1).arguments("m", None, card)["dtype"] == card.dtype


@pytest.mark.parametrize(("gpus", "backend"), [(0, "uni"), (1, "uni"), (2, "mp"), (8, "mp")])
def test_an_engine_spans_the_gpus_of_its_actor_and_asks_ray_for_none(gpus, backend):
    settings = EngineSettings(gpus=gpus, tensor_parallel=max(gpus, 1))
    assert settings.arguments("m", None, H100)["distributed_executor_backend"] == backend


def test_the_backend_of_structured_outputs_is_named():
    arguments = EngineSettings().arguments("m", None, Card())
    assert arguments["structured_outputs_config"] == {"backend": "xgrammar"}


def test_the_token_budget_follows_the_batch_and_the_card():
    def budget(batch: int, card: Card) -> int:
        settings = EngineSettings(gpus=int(card.most_tokens > 0), batch=batch)
        return settings.arguments("m", None, card)["max_num_batched_tokens"]

    assert budget(256, H100) == 8192
    assert budget(1024, H100) > budget(256, H100) > budget(16, H100)
    assert budget(1024, T4) < budget(1024, H100)
    for card in (H100, T4, Card()):  # vLLM refuses fewer tokens than sequences
        assert all(budget(batch, card) >= batch for batch in (1, 256, 5000, 50_000))
    assert budget(256, Card()) == 4096


def test_what_the_user_says_goes_before_all_else(monkeypatch):
    monkeypatch.setattr(engine, "typed", lambda own: {"dtype": "float32", "seed": len(own)})
    for settings in (EngineSettings(own=("a=1",)), EngineSettings(own=("a=1",), gpus=1)):
        arguments = settings.arguments("m", None, H100)
        assert (arguments["dtype"], arguments["seed"]) == ("float32", 1)


def test_batch_invariance_is_switched_on_or_refused(monkeypatch):
    monkeypatch.setattr(engine.os, "environ", {})
    settings = EngineSettings(gpus=1, batch_invariant=True)
    settings.arguments("m", None, H100)
    with pytest.raises(UserError, match=r"needs a GPU of compute capability 8\.0 or more"):
        settings.arguments("m", None, T4)
    prepare_environment(EngineSettings(gpus=1))
    assert "VLLM_BATCH_INVARIANT" not in engine.os.environ
    prepare_environment(settings)
    assert engine.os.environ["VLLM_BATCH_INVARIANT"] == "1"


class Platform:
    """What `vllm.platforms.cuda`, which a machine without CUDA cannot load, says of a card."""

    def __init__(self, capability: int, memory: int = 80 * GIB):
        import torch

        self._capability, self._memory = capability, memory
        known = {80: torch.bfloat16, 60: torch.float16, 0: torch.float32}
        self.supported_dtypes = [dtype for least, dtype in known.items() if capability >= least]

    def has_device_capability(self, capability: int) -> bool:
        return self._capability >= capability

    def is_rocm(self) -> bool:
        return False

    is_xpu = is_rocm

    def is_cuda(self) -> bool:
        return True

    def get_device_total_memory(self) -> int:
        return self._memory

    def get_device_name(self) -> str:
        return "Tesla K80"


@pytest.mark.engine
def test_a_card_is_what_vllm_says_of_it(monkeypatch):
    assert Card.here(gpus=0) == Card()
    found = {}
    for name, platform in {
        "V100": Platform(70, 32 * GIB),
        "T4": Platform(75, 15 * GIB),
        "A100": Platform(80),
        "L40": Platform(89, 48 * GIB),
        "H100": Platform(90),
    }.items():
        monkeypatch.setattr("vllm.platforms.current_platform", platform)
        found[name] = Card.here(gpus=1)
    assert found == {
        "V100": Card("float16", 8192),
        "T4": Card("float16", 8192),
        "A100": Card("bfloat16", 8192, batch_invariant=True),
        "L40": Card("bfloat16", 8192, batch_invariant=True),
        "H100": Card("bfloat16", 16_384, batch_invariant=True),
    }
    monkeypatch.setattr("vllm.platforms.current_platform", Platform(37))
    with pytest.raises(UserError, match="Tesla K80 computes neither in bfloat16 nor in float16"):
        Card.here(gpus=1)
