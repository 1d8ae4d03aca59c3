"""A model of two small layers and a tokenizer of single bytes: real training steps in milliseconds."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from parsing.llm.prompt import PromptTokens, load_prompt


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of the model."""
    folder = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["</s>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(alphabet) + 1,
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
