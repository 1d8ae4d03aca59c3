"""The script that made the small CLIP still makes one, and goes on where it was cut off."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from training.clip import load_clip
from workflows.shapes import pretrain as script
from workflows.shapes.dataset import samples
from workflows.shapes.model import Size, build, embed_part, embed_texts
from workflows.shapes.pairs import LESSONS, Pairs, tokenize
from workflows.shapes.pretrain import Settings, main, pretrain
from workflows.shapes.tokenizer import CONTEXT, save_tokenizer, train_tokenizer

SMALL = Size(width=32, layers=2, text_width=32, text_layers=1, embed_dim=16)
TINY = Settings(
    **asdict(SMALL), out="-", steps=4, batch=6, warm_up=1, save_every=2, measure_every=3, scenes=4
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([one.caption.text for one in samples("words", 300, 0)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrain")
    return pretrain(replace(TINY, out=str(out))), out


def test_a_few_steps_end_with_a_model_that_the_chain_loads(trained):
    folder, out = trained
    clip = load_clip(str(folder))
    assert (clip.width, clip.embed_dim, clip.patch_size, clip.image_size) == (32, 16, 8, 64)
    told = clip.encode_texts(["a photo of a ball", "a zebra, which it never saw"])
    assert told.norm(dim=-1).tolist() == pytest.approx([1, 1])
    about = json.loads((folder / "training.json").read_text())
    assert about["settings"]["steps"] == 4
    assert about["measures"]["scenes"] == 4
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [one["step"] for one in log if "naming" in one] == [3, 4]


def test_the_saved_model_is_the_trained_one_in_half_precision(trained):
    folder, out = trained
    state = torch.load(out / "checkpoint.pt", weights_only=True)["model"]
    saved = load_file(folder / "open_clip_model.safetensors")
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[name], state[name].half()) for name in saved)
    fresh = build(SMALL, saved["token_embedding.weight"].shape[0]).state_dict()
    assert any(not torch.equal(fresh[name].half(), saved[name]) for name in saved)


def test_a_training_that_was_cut_off_ends_with_the_same_bits(trained, tmp_path, monkeypatch):
    keep = script._save

    def cut_off(folder, settings, model, optimiser, step, minutes):
        keep(folder, settings, model, optimiser, step, minutes)
        raise KeyboardInterrupt

    settings = replace(TINY, out=str(tmp_path))
    monkeypatch.setattr(script, "_save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings)
    monkeypatch.undo()
    resumed = load_file(pretrain(settings) / "open_clip_model.safetensors")
    whole = load_file(trained[0] / "open_clip_model.safetensors")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_training_of_other_settings_is_not_gone_on_with(trained):
    with pytest.raises(UserError, match="holds a training with another lr, seed: name another"):
        pretrain(replace(TINY, out=str(trained[1]), lr=1e-2, seed=5))


def test_a_damaged_checkpoint_is_one_sentence(tmp_path, capsys):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK torn")
    assert main(["--out", str(tmp_path), "--width", "32", "--layers", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/checkpoint.pt is damaged: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--steps=0", "--steps is at least 1, not 0"),
        ("--batch=1", "--batch is at least 2, not 1"),
        ("--width=100", "--width is a multiple of 32, the width of a head, not 100"),
        ("--text-width=0", "--text-width is a multiple of 32, the width of a head, not 0"),
        ("--layers=0", "--layers is at least 1, not 0"),
        ("--patch=7", "--patch 7 does not divide the 64 pixels of a picture"),
        ("--lr=0", "--lr is above 0, not 0.0"),
        ("--warm-up=-1", "--warm-up is at least 0, not -1"),
    ],
)
def test_bad_settings_are_one_sentence(flag, sentence, tmp_path, capsys):
    assert main(["--out", str(tmp_path), flag]) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"


def test_whole_pictures_are_embedded_as_open_clip_does():
    torch.manual_seed(0)
    model = build(SMALL, 64).eval()
    images = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(embed_part(model.visual, images, (0.3, 0.8)), model.visual(images))


def test_a_part_of_a_picture_takes_the_places_of_its_corner():
    torch.manual_seed(0)
    visual = build(SMALL, 64).visual.eval()
    part = torch.randn(2, 3, 24, 40)
    first, last = (embed_part(visual, part, (corner, corner)) for corner in (0.0, 1.0))
    assert not torch.allclose(first, last)
    with torch.no_grad():
        grid = visual.positional_embedding[1:].unflatten(0, (8, 8))
        grid[:3, :5] = grid[5:, 3:].clone()
    torch.testing.assert_close(embed_part(visual, part, (0.0, 0.0)), last)


def test_texts_are_embedded_as_open_clip_does(tokenizer):
    torch.manual_seed(0)
    model = build(SMALL, len(tokenizer)).eval()
    tokens = tokenize(tokenizer, ["a red ball", "sale : a very long umbrella " * 9, "", "ÿ€"])
    torch.testing.assert_close(embed_texts(model, tokens), model.encode_text(tokens))


def test_every_text_ends_with_the_largest_token(tokenizer):
    texts = ["a photo of a ball", "Überraschung 球 <PERSON> \U0001f600", "", "boat " * 50]
    tokens = tokenize(tokenizer, texts)
    assert tokens.shape == (4, CONTEXT)
    ends = tokens.argmax(1)
    end = tokenizer.eos_token_id
    assert (tokens[torch.arange(4), ends] == end).all()
    assert ((tokens == end).sum(1) == 1).all()
    assert all((row[place + 1 :] == 0).all() for row, place in zip(tokens, ends, strict=True))
    assert end == len(tokenizer) - 1


def test_words_it_never_saw_are_spelt_and_not_lost(tokenizer):
    tokens = tokenize(tokenizer, ["a zebra", "a giraffe", "a Zebra"])
    assert not torch.equal(tokens[0], tokens[1])
    assert torch.equal(tokens[0], tokens[2])
    assert tokenizer.decode(tokens[0], skip_special_tokens=True).strip() == "a zebra"


def test_open_clip_reads_the_tokenizer_from_the_folder_as_it_was(trained, tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    (tmp_path / "open_clip_config.json").write_bytes(
        (trained[0] / "open_clip_config.json").read_bytes()
    )

    texts = ["a photo of a Red Ball", "<PERSON> : two fish", "boat " * 50]
    read = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    assert torch.equal(read(texts), tokenize(tokenizer, texts))


def test_a_batch_follows_from_seed_and_step(tokenizer):
    first, again = Pairs(tokenizer, 0, 3, 9), Pairs(tokenizer, 0, 3, 9)
    again[5]
    for one, other in zip(first[2][:2], again[2][:2], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first[2][0], first[1][0])
    assert not torch.equal(Pairs(tokenizer, 1, 3, 9)[2][0], first[2][0])


def test_lessons_follow_each_other_to_whole_pictures(tokenizer):
    pairs = Pairs(tokenizer, 0, 2, 100)
    sides = [pairs[step][0].shape[1] for step in (0, 40, 99)]
    assert sides == [LESSONS[0].side, LESSONS[1].side, 64]
    assert len(pairs) == 100
