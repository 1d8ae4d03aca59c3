from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from eval.datasets.benchmark_list import open_benchmark
from eval.datasets.referring import Expression
from eval.inference.protocols import inference_of
from workflows import calibration
from workflows.calibration import for_referring, for_segmentation

PAPERS = inference_of("paper")
COLOURS = {1: (255, 0, 0), 2: (0, 255, 0)}


class Oracle:
    """Knows each pixel's class from its colour; grey is background, like neither class."""

    def __init__(self, sure: float):
        self.sure = sure

    def probabilities(self, image: Image.Image, scale: float) -> np.ndarray:
        pixels = np.asarray(image).astype(int)
        cosines = np.stack(
            [self.sure * (pixels == colour).all(-1) for colour in COLOURS.values()]
        ).astype(np.float32)
        return torch.from_numpy(scale * cosines).softmax(0).numpy()


@pytest.fixture
def benchmark(tmp_path: Path):
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(4):
        truth = np.kron(rng.integers(0, 3, (4, 4)), np.ones((8, 8), int)).astype(np.uint8)
        pixels = np.full((32, 32, 3), 90, np.uint8)
        for label, colour in COLOURS.items():
            pixels[truth == label] = colour
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
        Image.fromarray(truth).save(tmp_path / f"masks/{number}.png")
    about = {"title": "T", "source": "here", "background": True, "threshold": 0.5, "ignore": [],
             "first": 1, "classes": ["red", "green"]}  # fmt: skip
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(about))
    return open_benchmark(str(tmp_path), tmp_path)


@pytest.mark.parametrize("sure", [0.02, 0.2, 1.0])
def test_a_perfect_map_is_cut_where_it_is_perfect_whatever_its_range(benchmark, monkeypatch, sure):
    oracle = Oracle(sure)
    monkeypatch.setattr(calibration, "class_embeddings", lambda *_: None)
    monkeypatch.setattr(
        calibration,
        "Segmenter",
        lambda dense, embeddings, inference: type(
            "S", (), {"probabilities": lambda _, image: dense.probabilities(image, inference.scale)}
        )(),
    )
    chosen = for_segmentation(oracle, benchmark, PAPERS)
    for key in benchmark.keys:
        values = oracle.probabilities(benchmark.image(key), chosen.scale)
        labels = np.where(values.max(0) < chosen.threshold, 0, values.argmax(0) + 1)
        assert (labels == benchmark.truth(key)).all()
    assert replace(chosen, scale=None, threshold=None) == PAPERS  # nothing else is touched


def test_the_threshold_for_masks_is_the_one_that_fits_the_true_masks(monkeypatch):
    """Similarity falls off from each disc's middle; the true mask is where it is above 0.6."""
    rows, columns = np.mgrid[:32, :32]
    maps = [1 - np.hypot(rows - y, columns - x) / 40 for y, x in ((8, 9), (20, 15), (25, 4))]
    level = [m.min() + 0.6 * (m.max() - m.min()) for m in maps]

    class Set:
        expressions = MappingProxyType({i: [Expression(str(i), "disc", i)] for i in range(3)})

        def path(self, image):
            return image

        def mask(self, expression):
            return maps[expression.instance] >= level[expression.instance]

    segmenter = lambda dense, embeddings, inference: SimpleNamespace(  # noqa: E731
        inference=inference, similarities=lambda image: maps[image][None]
    )
    monkeypatch.setattr(calibration, "class_embeddings", lambda *_: None)
    monkeypatch.setattr(calibration, "open_image", lambda path: path)
    monkeypatch.setattr(calibration, "Segmenter", segmenter)
    chosen = for_referring(None, Set(), PAPERS)
    assert chosen.threshold == pytest.approx(0.6)
    assert replace(chosen, threshold=None) == PAPERS
