"""A model of two small layers and a tokenizer of single bytes: real training steps in milliseconds."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from parsing.llm.prompt import PromptTokens, load_prompt
from tests.byte_tokenizer import byte_tokenizer


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of the model."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(["</s>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def tokens(tiny_model):
    """The student's prompt, laid out for the tiny model."""
    from transformers import AutoTokenizer

    return PromptTokens(load_prompt("student"), AutoTokenizer.from_pretrained(tiny_model))
