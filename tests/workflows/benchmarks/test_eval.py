from __future__ import annotations

import numpy as np
import torch

from workflows.benchmarks.eval import count, loop_over_classes, make_mask
from workflows.benchmarks.random_clip import random_clip


def test_random_models_of_one_seed_are_the_same():
    first, again, other = (random_clip("ViT-B-32", seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.name == "random ViT-B-32"
    texts = first.encode_texts(["a cat"])
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(1))


def test_the_loop_that_counting_is_compared_with_gives_what_it_should():
    truth, predicted = np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 1]])
    np.testing.assert_allclose(loop_over_classes(truth, predicted, 4), [1 / 2, 1 / 3, 0, np.nan])
    assert all(seconds > 0 for seconds in count(3, 1))
    assert make_mask((640, 480), 171).getvalue().startswith(b"\x89PNG")
