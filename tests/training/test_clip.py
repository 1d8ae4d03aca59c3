"""Loading a frozen CLIP, and embedding texts with it."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from common.errors import UserError
from common.storage import Folder
from training import clip as clip_module
from training.clip import load_clip, tag_embeddings


def test_the_model_is_frozen_and_stays_in_eval_mode(tiny):
    torch.nn.Sequential(tiny).train()
    assert not any(module.training for module in tiny.modules())
    assert not any(parameter.requires_grad for parameter in tiny.parameters())


def test_text_embeddings_are_open_clips_own_at_unit_length(tiny, tiny_folder):
    texts = ["a cat", "A photo of a wooden bench", ""]
    model = open_clip.create_model(f"local-dir:{tiny_folder}")
    expected = model.eval().encode_text(open_clip.get_tokenizer(f"local-dir:{tiny_folder}")(texts))
    torch.testing.assert_close(tiny.encode_texts(texts), F.normalize(expected, dim=-1))


def test_texts_are_embedded_the_same_in_any_batching(tiny, monkeypatch):
    texts = [f"thing {i}" for i in range(7)]
    whole = tiny.encode_texts(texts)
    monkeypatch.setattr(clip_module, "TEXT_BATCH", 2)
    torch.testing.assert_close(tiny.encode_texts(texts), whole)
    assert tiny.encode_texts([]).shape == (0, tiny.embed_dim)


def test_tag_embeddings_are_computed_once_for_each_model_vocabulary_and_template(
    tiny, tmp_path, monkeypatch, save_clip
):
    cache = Folder(tmp_path / "cache")
    first = tag_embeddings(tiny, ["cat", "dog"], cache)
    torch.testing.assert_close(first, tiny.encode_texts(["A photo of a cat", "A photo of a dog"]))
    other = load_clip(str(save_clip(tmp_path / "other", seed=1)))
    assert not torch.equal(tag_embeddings(other, ["cat", "dog"], cache), first)
    assert not torch.equal(tag_embeddings(tiny, ["dog", "cat"], cache), first)
    assert not torch.equal(tag_embeddings(tiny, ["cat", "dog"], cache, "{}"), first)

    def fail(*args):
        raise AssertionError("computed a second time")

    monkeypatch.setattr(type(tiny), "encode_texts", fail)
    assert torch.equal(tag_embeddings(tiny, ["cat", "dog"], cache), first)


def test_damaged_tag_embeddings_are_made_again(tiny, tmp_path):
    cache = Folder(tmp_path / "cache")
    first = tag_embeddings(tiny, ["cat", "dog"], cache)
    [name] = cache.names(".safetensors")
    (tmp_path / "cache" / name).write_bytes(b"torn")
    assert torch.equal(tag_embeddings(tiny, ["cat", "dog"], cache), first)
    assert torch.equal(tag_embeddings(tiny, ["cat", "dog"], cache), first)


def test_the_fingerprint_tells_weights_and_activations_apart(
    tiny, tiny_folder, tmp_path, save_clip
):
    assert load_clip(str(tiny_folder)).fingerprint == tiny.fingerprint
    assert load_clip(str(tiny_folder), quick_gelu=True).fingerprint != tiny.fingerprint
    other = save_clip(tmp_path / "other", seed=1)
    assert load_clip(str(other)).fingerprint != tiny.fingerprint


@pytest.fixture
def small_vit(monkeypatch, tiny_config):
    """A built-in name whose configuration is tiny, so that weights files stay small."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-Tiny-Test", tiny_config)
    return "ViT-Tiny-Test"


def test_weights_come_from_a_state_dict_or_a_torchscript_archive(small_vit, tmp_path):
    model = open_clip.create_model(small_vit).eval()
    images = torch.randn(2, 3, 32, 32)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pt")
    for file in ("w.safetensors", "w.pt"):
        loaded = load_clip(small_vit, str(tmp_path / file))
        torch.testing.assert_close(loaded.visual(images), model.visual(images))

    # OpenAI's form, which is trained with the approximate GELU
    quick = open_clip.create_model(small_vit, force_quick_gelu=True).eval()
    quick.load_state_dict(model.state_dict())
    torch.jit.save(torch.jit.script(quick), tmp_path / "w.jit")
    loaded = load_clip(small_vit, str(tmp_path / "w.jit"))
    torch.testing.assert_close(loaded.visual(images), quick.visual(images))
    assert not torch.allclose(loaded.visual(images), model.visual(images))


def activation(clip) -> str:
    return type(clip.visual.transformer.resblocks[-1].mlp.gelu).__name__


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("own_name", [True, False])
def test_a_file_of_weights_has_the_activation_of_the_config_beside_it(
    quick, own_name, small_vit, monkeypatch, tiny_config, tmp_path, save_clip, capsys
):
    monkeypatch.setitem(
        open_clip.factory._MODEL_CONFIGS,
        f"{small_vit}-quickgelu",
        tiny_config | {"quick_gelu": True},
    )
    folder = save_clip(tmp_path / "saved", quick_gelu=quick)
    file = folder / ("mine.safetensors" if own_name else "open_clip_model.safetensors")
    if own_name:
        (folder / "open_clip_model.safetensors").rename(file)
    expected = "QuickGELU" if quick else "GELU"
    by_file = load_clip(small_vit, str(file))
    assert activation(by_file) == expected
    assert by_file.mean == (0.5, 0.5, 0.5)  # as the config says, too
    assert activation(load_clip(f"{small_vit}-quickgelu", str(file))) == expected
    assert activation(load_clip(small_vit, str(file), quick_gelu=not quick)) != expected
    assert capsys.readouterr().err == ""
    if not own_name:
        assert load_clip(str(folder)).fingerprint == by_file.fingerprint


def test_a_file_alone_asks_which_activation_where_a_name_has_both(
    small_vit, monkeypatch, tiny_config, tmp_path, save_clip
):
    monkeypatch.setitem(
        open_clip.factory._MODEL_CONFIGS,
        f"{small_vit}-quickgelu",
        tiny_config | {"quick_gelu": True},
    )
    monkeypatch.setattr(open_clip, "list_models", lambda: [small_vit, f"{small_vit}-quickgelu"])
    saved = save_clip(tmp_path / "saved") / "open_clip_model.safetensors"
    file = str(saved.rename(tmp_path / "alone.safetensors"))
    with pytest.raises(
        UserError, match=r"which activation .* add --quick-gelu .* or --no-quick-gelu"
    ):
        load_clip(small_vit, file)
    assert activation(load_clip(small_vit, file, quick_gelu=True)) == "QuickGELU"
    assert activation(load_clip(small_vit, file, quick_gelu=False)) == "GELU"
    assert activation(load_clip(f"{small_vit}-quickgelu", file)) == "QuickGELU"
    assert activation(load_clip(f"{small_vit}-quickgelu", file, quick_gelu=False)) == "GELU"


def test_a_file_alone_says_which_activation_is_taken(small_vit, tmp_path, save_clip, capsys):
    saved = save_clip(tmp_path / "saved") / "open_clip_model.safetensors"
    file = saved.rename(tmp_path / "alone.safetensors")
    load_clip(small_vit, str(file))
    assert "alone.safetensors is taken to need GELU" in capsys.readouterr().err


def test_a_damaged_config_beside_weights_is_one_sentence(small_vit, tmp_path, save_clip):
    folder = save_clip(tmp_path / "saved")
    for content in ("{", "[]", '{"model_cfg": 3}'):
        (folder / "open_clip_config.json").write_text(content)
        with pytest.raises(UserError, match=r"open_clip_config\.json, beside .*, is damaged"):
            load_clip(small_vit, str(folder / "open_clip_model.safetensors"))


def test_openais_weights_by_name_get_openais_activation():
    assert clip_module._needs_quick_gelu("ViT-B-16", "openai")
    assert not clip_module._needs_quick_gelu("ViT-B-16", "laion2b_s34b_b88k")


@pytest.mark.parametrize(
    ("model", "weights", "sentence"),
    [
        ("ViT-nope", "openai", "knows no model 'ViT-nope'"),
        ("ViT-B-16", "nope", "no weights 'nope' for ViT-B-16"),
        ("ViT-B-16", None, "no weights given for ViT-B-16"),
    ],
)
def test_an_unknown_model_or_weights_is_one_sentence(model, weights, sentence):
    with pytest.raises(UserError, match=sentence):
        load_clip(model, weights)


def test_files_that_are_not_this_models_weights_are_one_sentence(small_vit, tmp_path, save_clip):
    (tmp_path / "w.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot read the weights in"):
        load_clip(small_vit, str(tmp_path / "w.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="holds the weights of another model"):
        load_clip(small_vit, str(tmp_path / "other.safetensors"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no open_clip_config\.json"):
        load_clip(str(tmp_path / "empty"))
    folder = save_clip(tmp_path / "bare")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        load_clip(str(folder))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.pth", "w.safetensors"])
def test_weights_are_read_however_a_trainer_saved_them(name, prefix, wrapped, small_vit, tmp_path):
    model = open_clip.create_model(small_vit).eval()
    expected = {key: tensor.half() for key, tensor in model.state_dict().items()}
    state = {prefix + key: tensor for key, tensor in expected.items()}
    if name.endswith("safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / name)
    loaded = load_clip(small_vit, str(tmp_path / name)).model.state_dict()
    for key, tensor in expected.items():
        assert torch.equal(loaded[key], tensor.to(loaded[key].dtype))


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("inside", [False, True])
def test_weights_with_code_are_refused_and_the_code_does_not_run(inside, small_vit, tmp_path):
    trap = Trap(tmp_path / "ran")
    state = dict(open_clip.create_model(small_vit).state_dict())
    torch.save(state | {"extra": trap} if inside else trap, tmp_path / "w.pt")
    with pytest.raises(UserError, match="cannot read the weights in") as caught:
        load_clip(small_vit, str(tmp_path / "w.pt"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_one_sentence(value, small_vit, tmp_path):
    state = open_clip.create_model(small_vit).state_dict()
    state["visual.proj"][2, 1] = value
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"hold values that are no numbers, in visual\.proj"):
        load_clip(small_vit, str(tmp_path / "w.safetensors"))


def test_a_convolutional_clip_is_refused():
    import training.clip as module

    with pytest.raises(UserError, match="is not one of open_clip's own ViTs"):
        module._check_vision(open_clip.create_model("RN50"), "RN50")


def test_weights_that_cannot_be_fetched_are_one_sentence(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network here\nand a second line")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", fail)
    with pytest.raises(UserError, match=r"cannot load ViT-B-16 openai: .*no network here$"):
        load_clip("ViT-B-16", "openai")
