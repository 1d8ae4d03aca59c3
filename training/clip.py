"""The frozen CLIP: any open_clip ViT with a class token, by name or from local files.

`load_clip` returns the module that embeds captions, tags and class names, and whose patch tokens
`surgery.py` reads. `tag_embeddings` caches the embeddings of a vocabulary on disk, so that they are
computed once for each model and vocabulary.

Shapes: n texts, T tags, C channels of the image transformer, D joint width.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import open_clip
import torch
import xxhash
from open_clip.factory import load_checkpoint
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transformer import QuickGELU, VisionTransformer
from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as write_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError
from common.storage import Folder
from training.distributed import rank

MODEL, WEIGHTS = "ViT-B-16", "openai"  # the paper's
TAG_TEMPLATE = "A photo of a {}"
TEXT_BATCH = 256
CONFIG_FILE = "open_clip_config.json"


class Clip(nn.Module):
    """A frozen open_clip model; `train()` leaves it in eval mode.

    Attributes:
        name: `model` or `model/weights`, for messages.
        fingerprint: hex digest of the weights and the activation; equal for two models exactly if
            they compute the same function.
        visual: open_clip's own VisionTransformer.
        tokenizer: list of strings -> int64 tokens of shape (n, context length).
        width: width of the image transformer, C.
        embed_dim: dimension of CLIP's joint space, D.
        patch_size: pixels, the same in both directions.
        image_size: pixels of the side of the square images that CLIP was trained on.
        mean, std: of each colour channel, for pixels in [0, 1].
    """

    def __init__(self, model: nn.Module, tokenizer: Callable[[list[str]], Tensor], name: str):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        visual = model.visual
        self.width: int = visual.conv1.out_channels
        self.embed_dim: int = visual.output_dim
        self.patch_size: int = visual.patch_size[0]
        self.image_size: int = visual.image_size[0]
        self.mean: tuple[float, ...] = tuple(visual.preprocess_cfg["mean"])
        self.std: tuple[float, ...] = tuple(visual.preprocess_cfg["std"])
        self.fingerprint = _fingerprint(model)

    @property
    def visual(self) -> VisionTransformer:
        return self.model.visual

    def train(self, mode: bool = True) -> Clip:
        return super().train(False)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit-length text embeddings, float32 of shape (n, D), on the model's device.

        open_clip's tokenizer truncates texts that are longer than the context.
        """
        if not texts:
            return torch.zeros(0, self.embed_dim, device=self.device)
        batches = []
        for start in range(0, len(texts), TEXT_BATCH):
            tokens = self.tokenizer(list(texts[start : start + TEXT_BATCH]))
            batches.append(self.encode_tokens(tokens.to(self.device, non_blocking=True)))
        return torch.cat(batches)  # (n, D)

    @torch.no_grad()
    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """As `encode_texts`, for int64 tokens of shape (n, context length)."""
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)

    @property
    def device(self) -> torch.device:
        return self.visual.conv1.weight.device


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds NaN or infinity."""
    return next((name for name, each in tensors if not each.isfinite().all()), None)


def load_clip(
    model: str = MODEL,
    weights: str | None = WEIGHTS,
    device: str | torch.device = "cpu",
    quick_gelu: bool | None = None,
) -> Clip:
    """Loads a frozen CLIP.

    Args:
        model: a name of `open_clip.list_models()`, `hf-hub:ORG/REPO`, or a local folder that holds
            `open_clip_config.json` beside its weights.
        weights: a name of `open_clip.list_pretrained()` (fetched once, by open_clip's own
            loader), or a local file: safetensors, a state dict, or OpenAI's TorchScript
            archive. Not read if `model` contains its own. An `open_clip_config.json` beside a file
            says how its model normalises pixels and which activation it has.
        device: where the model goes.
        quick_gelu: use the GELU approximation that OpenAI trained with, or don't; None goes by what is
            known of the weights, and else by the model's configuration.

    Raises:
        UserError: no such model or weights, weights of another model, a model that is not a
            ViT with a class token, a download that failed, weights with NaN or infinity, or a file of
            weights that may have been trained with either activation.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / CONFIG_FILE).is_file():
            raise UserError(f"{model} holds no {CONFIG_FILE}: is it a folder that open_clip saved?")
        if not any(f.suffix in (".safetensors", ".bin", ".pth", ".pt") for f in folder.iterdir()):
            raise UserError(f"{model} holds a configuration, but no weights (.safetensors)")
        model, weights = f"local-dir:{model}", None
    elif model.startswith(("local-dir:", "hf-hub:")):
        weights = None
    elif open_clip.get_model_config(model) is None:
        raise UserError(
            f"open_clip knows no model '{model}', and there is no such folder: "
            "see open_clip.list_models()"
        )
    elif weights is None:
        raise UserError(f"no weights given for {model}: name some, or give a local file")

    if quick_gelu is None and weights:
        quick_gelu = _needs_quick_gelu(model, weights)
    built = _build(model, weights, bool(quick_gelu))
    if quick_gelu is False:  # open_clip takes no flag against a configuration
        _use_plain_gelu(built)
    _check_vision(built, model)
    if (odd := not_finite(built.named_parameters())) is not None:
        raise UserError(
            f"the weights of {weights or model} hold values that are no numbers, in {odd}"
        )
    name = f"{model}/{weights}" if weights else model
    return Clip(built, open_clip.get_tokenizer(model), name).to(device)


def tag_embeddings(
    clip: Clip, tags: Sequence[str], cache: Folder | None = None, template: str = TAG_TEMPLATE
) -> Tensor:
    """Unit-length embeddings of "A photo of a {tag}", float32 of shape (T, D), on the CPU.

    Args:
        clip: the frozen model.
        tags: the vocabulary, in the order of its ids.
        cache: where the embeddings are stored under a hash of the model's weights, the template and
            the tags; None stores nothing.
        template: a format string with one `{}`.

    Raises:
        UserError: the cache cannot be written to.
    """
    key = xxhash.xxh3_128()
    for part in (clip.fingerprint, template, *tags):
        key.update(part.encode() + b"\0")
    name = f"tags-{key.hexdigest()}.safetensors"
    if cache is not None and cache.exists(name):
        try:
            return read_safetensors(cache.read(name))["embeddings"]
        except (SafetensorError, KeyError):  # damaged: computed again below
            pass
    embeddings = clip.encode_texts([template.format(tag) for tag in tags]).cpu()
    if cache is not None:
        cache.make()
        cache.write(name, write_safetensors({"embeddings": embeddings}))
    return embeddings


def _build(model: str, weights: str | None, quick_gelu: bool) -> nn.Module:
    if weights is not None and Path(weights).is_file():
        beside = (_config_beside(weights) or {}).get("preprocess_cfg")
        built = open_clip.create_model(
            model, load_weights=False, force_quick_gelu=quick_gelu, force_preprocess_cfg=beside
        )
        try:
            if _is_torchscript(weights):
                built.load_state_dict(_torchscript_weights(weights))
            else:
                load_checkpoint(built, weights, weights_only=True)
        except Exception as error:  # pickle, zip, safetensors and torch each raise their own
            if "loading state_dict" in str(error):
                raise UserError(
                    f"{weights} holds the weights of another model than {model}"
                ) from error
            raise UserError(
                f"cannot read the weights in {weights}: {_first_line(error)}"
            ) from error
        return built
    if weights is not None and not get_pretrained_cfg(model, weights):
        known = ", ".join(list_pretrained_tags_by_model(model)) or "none"
        raise UserError(f"no weights '{weights}' for {model}, by name ({known}) or as a file")
    try:
        return open_clip.create_model(
            model, pretrained=weights, force_quick_gelu=quick_gelu, require_pretrained=True
        )
    except Exception as error:  # the hub client, the file readers and open_clip raise their own
        raise UserError(f"cannot load {model} {weights or ''}: {_first_line(error)}") from error


def _torchscript_weights(path: str) -> dict[str, Tensor]:
    """The parameters in OpenAI's archives, which are half precision, without the sizes beside them."""
    others = ("input_resolution", "context_length", "vocab_size", "attn_mask")
    state = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: tensor.float() for name, tensor in state.items() if name not in others}


def _check_vision(built: nn.Module, model: str) -> None:
    visual = getattr(built, "visual", None)
    if not isinstance(visual, VisionTransformer):
        raise UserError(
            f"{model} is not one of open_clip's own ViTs, and no other model is supported"
        )
    if visual.attn_pool is not None or visual.pool_type != "tok" or visual.proj is None:
        raise UserError(
            f"{model} does not embed images by a class token, and no other ViT is supported"
        )
    if visual.patch_size[0] != visual.patch_size[1]:
        raise UserError(f"{model} has patches that are not square")


def _needs_quick_gelu(model: str, weights: str) -> bool:
    if not Path(weights).is_file():
        known = (get_pretrained_cfg(model, weights) or {}).get("quick_gelu", False)
        return known or _configured(open_clip.get_model_config(model))
    if _is_torchscript(weights):  # only OpenAI's own weights are TorchScript archives
        return True
    beside = _config_beside(weights)
    if beside is not None:
        return _configured(beside["model_cfg"])
    used = _configured(open_clip.get_model_config(model))
    if not used and f"{model}-quickgelu" in open_clip.list_models():
        raise UserError(
            f"{weights} doesn't say which activation its model was trained with, and {model} has two: "
            "add --quick-gelu (OpenAI's weights and some others) or --no-quick-gelu"
        )
    if rank() == 0:
        activation = "QuickGELU" if used else "GELU"
        print(f"{weights} is taken to need {activation}, as {model} has it", file=sys.stderr)
    return used


def _configured(model_config: dict) -> bool:
    return bool(model_config.get("quick_gelu", False))


def _config_beside(weights: str) -> dict | None:
    """The configuration in the folder of a file of weights, None if there is none."""
    path = Path(weights).with_name(CONFIG_FILE)
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config["model_cfg"], dict):
            raise TypeError("its model_cfg is no object")
        return config
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}, beside {weights}, is damaged: {error}") from error


def _use_plain_gelu(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, QuickGELU):
            setattr(module, name, nn.GELU())
        else:
            _use_plain_gelu(child)


def _is_torchscript(path: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _fingerprint(model: nn.Module) -> str:
    digest = xxhash.xxh3_128()
    digest.update(str(model.visual.transformer.resblocks[0].mlp.gelu).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
