"""Text embeddings of class names: one unit vector per class, cached on disk.

Shapes: n classes, t templates, D joint width.
"""

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

PHOTO_STOP, PHOTO, IMAGENET, BARE = "photo-stop", "photo", "imagenet", "bare"
TEMPLATES: dict[str, tuple[Callable[[str], str], ...]] = {
    PHOTO_STOP: (lambda name: f"a photo of a {name}.",),
    PHOTO: (lambda name: f"a photo of a {name}",),
    IMAGENET: OPENAI_IMAGENET_TEMPLATES,  # OpenAI's 80 templates
    BARE: (lambda name: name,),
}


def class_embeddings(
    dense: Dense, names: Sequence[str], templates: str = PHOTO, cache: Folder | None = None
) -> Tensor:
    """Embeds class names: the mean over templates, normalised, on the model's device.

    Args:
        dense: the model whose text encoder is used.
        names: n class names, without the background.
        templates: a key of `TEMPLATES`.
        cache: folder of cached embeddings; a file's name is a hash of the model's weights and the
            sentences. None caches nothing.

    Returns:
        unit length, float32 of shape (n, D).

    Raises:
        UserError: the cache is not writable.
    """
    sentences = [template(name) for name in names for template in TEMPLATES[templates]]
    key = xxhash.xxh3_128()
    for part in (dense.encoder.fingerprint, str(len(names)), *sentences):
        key.update(part.encode() + b"\0")
    file = f"classes-{key.hexdigest()}.safetensors"
    if cache is not None and cache.exists(file):
        try:
            return read_safetensors(cache.read(file))["embeddings"].to(dense.encoder.device)
        except (SafetensorError, KeyError):  # damaged: computed and written again below
            pass
    each = dense.encode_texts(sentences).unflatten(0, (len(names), -1))  # (n, t, D)
    embeddings = F.normalize(each.mean(1), dim=-1)  # (n, D)
    if cache is not None:
        cache.make()
        cache.write(file, write_safetensors({"embeddings": embeddings.cpu().contiguous()}))
    return embeddings
