"""Class names as CLIP reads them: one unit vector for each class, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import xxhash
from open_clip import OPENAI_IMAGENET_TEMPLATES
from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as write_safetensors
from torch import Tensor
from torch.nn import functional as F

from common.storage import Folder
from training.dense import Dense

PHOTO, IMAGENET, BARE = "photo", "imagenet", "bare"
TEMPLATES: dict[str, tuple[Callable[[str], str], ...]] = {
    PHOTO: (lambda name: f"a photo of a {name}",),
    IMAGENET: OPENAI_IMAGENET_TEMPLATES,  # the 80 sentences that OpenAI averages over
    BARE: (lambda name: name,),
}


def class_embeddings(
    dense: Dense, names: Sequence[str], templates: str = PHOTO, cache: Folder | None = None
) -> Tensor:
    """The mean embedding of each class's sentences, on the model's device.

    Args:
        dense: whose text encoder is asked.
        names: n class names, without the background.
        templates: a key of `TEMPLATES`.
        cache: a folder that keeps them under a name made from the model's weights, the templates and
            the names; None keeps nothing.

    Returns:
        unit length, float32 of shape (n, D).

    Raises:
        UserError: the cache cannot be written to.
    """
    sentences = [template(name) for name in names for template in TEMPLATES[templates]]
    key = xxhash.xxh3_128()
    for part in (dense.encoder.fingerprint, str(len(names)), *sentences):
        key.update(part.encode() + b"\0")
    file = f"classes-{key.hexdigest()}.safetensors"
    if cache is not None and cache.exists(file):
        try:
            return read_safetensors(cache.read(file))["embeddings"].to(dense.encoder.device)
        except (SafetensorError, KeyError):  # damaged: made again below
            pass
    each = dense.encode_texts(sentences).unflatten(0, (len(names), -1))
    embeddings = F.normalize(each.mean(1), dim=-1)
    if cache is not None:
        cache.make()
        cache.write(file, write_safetensors({"embeddings": embeddings.cpu().contiguous()}))
    return embeddings
