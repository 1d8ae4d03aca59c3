"""GroupViT behind the same losses: a random, tiny one in local files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTokenizerFast, GroupViTConfig, GroupViTModel

from common.errors import UserError
from training.dense import load_dense
from training.groupvit import load_groupvit
from training.trainer import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    place = tmp_path_factory.mktemp("groupvit")
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (place / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizerFast(str(place / "vocab.json"), str(place / "merges.txt"))
    tokenizer.save_pretrained(place)
    torch.manual_seed(0)
    config = GroupViTConfig(
        text_config={
            "vocab_size": len(tokens), "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 24,
            "bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "depths": [1, 1, 1], "num_hidden_layers": 3,
            "num_group_tokens": [6, 3, 0], "num_output_groups": [6, 3, 0],
            "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
        },
        projection_dim=16, projection_intermediate_dim=32,
    )  # fmt: skip
    GroupViTModel(config).save_pretrained(place)
    return f"groupvit:{place}"


def test_features_are_transformers_own(folder, images):
    ours = load_groupvit(folder)
    theirs = GroupViTModel.from_pretrained(folder.removeprefix("groupvit:")).eval()
    with torch.no_grad():
        pooled = theirs.vision_model(pixel_values=images).pooler_output
        expected = theirs.visual_projection(pooled)
        head = ours.head().eval()
        torch.testing.assert_close(head(images, (0, 0))[:, 0], expected)
        tokens = ours.tokenizer(["cat", "a photo of a dog"])
        texts = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
    texts = texts / texts.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(ours.encode_texts(["cat", "a photo of a dog"]), texts)


def test_the_image_side_learns_and_the_text_side_does_not(folder, world, tmp_path):
    settings = world.settings(
        tmp_path, model=folder, steps=20, batch_size=32, crop="center", lr=0.2
    )
    train(settings)
    with open(f"{settings.folder}/metrics.jsonl") as file:
        losses = [json.loads(line)["loss"] for line in file]
    assert losses[-1] < losses[0]
    dense = load_dense(settings.folder)
    assert dense(torch.randn(2, 3, 48, 32)).shape == (2, 6, 4, 16)
    assert not any(name.startswith("text") for name in dense.head.state_dict())


def test_its_noise_is_the_same_after_a_break_and_in_micro_batches(folder, world, tmp_path):
    whole = world.settings(tmp_path, model=folder, name="whole", micro_batch=4)
    train(whole)
    parts = replace(whole, name="parts", steps=2)
    train(parts)
    train(replace(whole, name="parts", resume=True))
    ours, theirs = (load_file(f"{s.folder}/checkpoint.safetensors") for s in (parts, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_is_no_groupvit_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot load the GroupViT"):
        load_groupvit(f"groupvit:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="is a clip, not a GroupViT"):
        load_groupvit(f"groupvit:{tmp_path}")
