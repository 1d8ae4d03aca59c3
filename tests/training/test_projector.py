"""The trained part: that it starts as plain CLIP, and that all of it can then learn."""

from __future__ import annotations

import pytest
import torch

from training.projector import Projector
from training.surgery import image_tokens, plain_features


def test_untrained_it_reproduces_clips_patch_features(tiny, images):
    tokens = image_tokens(tiny.visual, images)
    features = Projector(tiny.visual)(tokens.patches, tokens.grid)
    torch.testing.assert_close(features, plain_features(tiny.visual, tokens.patches))


def test_every_parameter_learns_once_the_gates_have_moved(tiny, images):
    projector = Projector(tiny.visual)
    tokens = image_tokens(tiny.visual, images)
    optimiser = torch.optim.SGD(projector.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        projector(tokens.patches, tokens.grid).square().mean().backward()
        optimiser.step()
    still = [n for n, p in projector.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_it_has_the_papers_shape_and_leaves_clip_alone(tiny):
    projector = Projector(tiny.visual)
    gates = [p for n, p in projector.named_parameters() if n.endswith("gate")]
    assert len(gates) == 4
    assert all(gate.item() == 0 for gate in gates)
    assert {p.shape[-2:] for p in projector.parameters() if p.ndim == 4} == {(3, 3)}
    projector.proj.data.zero_()
    projector.norm.weight.data.zero_()
    assert tiny.visual.proj.any()
    assert tiny.visual.ln_post.weight.any()


def test_neighbours_matter_with_the_papers_kernel_and_not_with_single_tokens(tiny, images):
    tokens = image_tokens(tiny.visual, images)
    changed = tokens.patches.clone()
    changed[:, 0] += torch.randn(32)  # not a constant, which the LayerNorm would take away
    for kernel, reached in ((3, {0, 1, 4, 5}), (1, {0})):
        projector = Projector(tiny.visual, blocks=1, kernel=kernel)
        first = projector.blocks[0][0]
        first.gate.data.fill_(1.0)
        before = projector(tokens.patches, tokens.grid)
        after = projector(changed, tokens.grid)
        differs = (before - after).abs().amax(dim=(0, 2)) > 1e-6
        assert set(differs.nonzero().flatten().tolist()) == reached


def test_an_even_kernel_is_refused(tiny):
    with pytest.raises(ValueError, match="is odd, not 2"):
        Projector(tiny.visual, kernel=2)
