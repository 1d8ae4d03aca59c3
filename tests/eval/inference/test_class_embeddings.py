"""Class embeddings are means over templates, and are cached."""

from __future__ import annotations

import torch

from common.storage import Folder
from eval.inference.class_embeddings import class_embeddings

NAMES = ["cat", "dog", "grass", "sky", "car"]


def test_embeddings_are_means_over_templates_and_are_cached(trained, tmp_path):
    cache = Folder(tmp_path / "cache")
    first = class_embeddings(trained, NAMES, "imagenet", cache)
    each = trained.encode_texts(["a bad photo of a dog.", "itap of a dog."])
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(5))
    assert not torch.allclose(first[1], each[0], atol=1e-3)
    [file] = cache.names(".safetensors")
    calls = []
    original = trained.encode_texts
    try:
        trained.encode_texts = lambda texts: calls.append(texts) or original(texts)
        torch.testing.assert_close(class_embeddings(trained, NAMES, "imagenet", cache), first)
        assert not calls
        (tmp_path / "cache" / file).write_bytes(b"torn")
        torch.testing.assert_close(class_embeddings(trained, NAMES, "imagenet", cache), first)
        assert len(calls[0]) == 5 * 80
        class_embeddings(trained, ["cat", "dog", "grass", "sky", "truck"], "imagenet", cache)
        class_embeddings(trained, NAMES, "bare", cache)
    finally:
        del trained.encode_texts
    assert len(cache.names(".safetensors")) == 3
    assert calls[2] == NAMES


def test_one_template_is_the_embedding_of_its_sentence(trained):
    expected = trained.encode_texts([f"a photo of a {name}" for name in NAMES])
    torch.testing.assert_close(class_embeddings(trained, NAMES), expected)
