"""The pictures in the demo's report."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from eval.datasets.benchmark_list import open_benchmark
from eval.datasets.benchmarks import Benchmark, open_image
from eval.datasets.referring import ReferringSet
from eval.inference.class_embeddings import class_embeddings
from eval.inference.segmenter import Segmenter
from eval.inference.settings import Inference
from eval.pictures import grid, heat_map, overlay, palette
from training.dense import Dense
from training.metrics import METRICS
from workflows.chain import Chain
from workflows.scoring import REFERRING, SEGMENTATION, SPLIT, WHOLE

ZOOM = 3
_COLOURS = ("#2a6f97", "#c8553d", "#5b8c5a")
_LOSSES = {"loss_tag": "multi-tag classification, Eq. 4", "loss_text": "image-text, Eq. 5"}


@dataclass(frozen=True)
class Shown:
    """A model whose pictures are drawn.

    Attributes:
        title: for people.
        dense: the model.
        inference: with the scale and threshold of its score.
    """

    title: str
    dense: Dense
    inference: Inference


@dataclass(frozen=True)
class MapRow:
    """A scene, and for each text the similarity map of each model; pictures as data URLs."""

    picture: str
    texts: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Segmentations:
    """Scenes with their true classes and each model's.

    Attributes:
        titles: of the models.
        rows: the scene, the truth and each model's answer, as data URLs.
        legend: (class, colour), without the background.
    """

    titles: list[str]
    rows: list[list[str]]
    legend: list[tuple[str, str]]


def training_pictures(chain: Chain, count: int) -> list[str]:
    """The first scenes of the training set."""
    found: list[str] = []
    with tarfile.open(sorted((chain.world / "train").glob("*.tar"))[0]) as tar:
        for member in tar:
            if member.name.endswith(".png"):
                data = tar.extractfile(member).read()
                found.append(data_url(_zoomed(Image.open(io.BytesIO(data)))))
                if len(found) == count:
                    break
    return found


def loss_curves(runs: Sequence[tuple[str, str]]) -> Markup:
    """Both losses of some runs as an SVG.

    Args:
        runs: (title, folder).
    """
    from matplotlib.figure import Figure  # no pyplot: it keeps figures in global state

    figure = Figure(figsize=(8.4, 3), layout="constrained")
    for ax, (name, title) in zip(figure.subplots(1, 2), _LOSSES.items(), strict=True):
        for (run, folder), colour in zip(runs, _COLOURS, strict=False):
            lines = (Path(folder) / METRICS).read_text("utf-8").splitlines()
            figures = [json.loads(line) for line in lines]
            steps = [one["step"] for one in figures]
            ax.plot(steps, [one[name] for one in figures], color=colour, label=run)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("step")
        ax.legend(frameon=False, fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    return Markup(svg[svg.index("<svg") :])


def similarity_maps(chain: Chain, models: Sequence[Shown], count: int) -> list[MapRow]:
    """Scenes with several of one thing: a map of its name, and maps of two expressions."""
    data = ReferringSet(SPLIT, chain.world / REFERRING)
    several = [(image, group) for image, group in data.expressions.items() if len(group) > 1]
    rows = []
    for image, group in several[:count]:
        picture = open_image(data.path(image))
        texts = [group[0].text.split()[-1], *(one.text for one in group[:2])]
        large = picture.resize([side * ZOOM for side in picture.size], Image.Resampling.BICUBIC)
        maps = [
            Segmenter(one.dense, class_embeddings(one.dense, texts), WHOLE).similarities(picture)
            for one in models
        ]
        drawn = [
            (text, [data_url(heat_map(large, _enlarged(each[place], large.size))) for each in maps])
            for place, text in enumerate(texts)
        ]
        rows.append(MapRow(data_url(large), drawn))
    return rows


def segmentations(chain: Chain, models: Sequence[Shown], count: int) -> Segmentations:
    """The first scenes of the benchmark."""
    drawn = _segmented(chain, models, count, ZOOM)
    rows = [[data_url(picture) for picture in row] for row in drawn]
    names = _benchmark(chain).class_names
    colours = ["#{:02x}{:02x}{:02x}".format(*one) for one in palette(len(names)).tolist()]
    legend = list(zip(names, colours, strict=True))[1:]
    return Segmentations([one.title for one in models], rows, legend)


def result_sheet(chain: Chain, models: Sequence[Shown], count: int) -> Image.Image:
    """One picture with a column per scene: the scene, its true classes and each model's below it."""
    columns = _segmented(chain, models, count, ZOOM + 1)  # wide enough for the titles
    titles = ["scene", "truth", *(one.title for one in models)]
    captions = [[title, *[""] * (count - 1)] for title in titles]
    return grid([list(row) for row in zip(*columns, strict=True)], captions)


def _benchmark(chain: Chain) -> Benchmark:
    return open_benchmark(f"{chain.world}/{SEGMENTATION}", chain.folder)


def _segmented(
    chain: Chain, models: Sequence[Shown], count: int, zoom: int
) -> list[list[Image.Image]]:
    """For each of the first scenes: itself, the true classes, and each model's."""
    benchmark = _benchmark(chain)
    keys = list(benchmark.keys)[:count]
    pictures = [benchmark.image(key) for key in keys]
    columns = [[benchmark.truth(key) for key in keys]]
    for one in models:
        embeddings = class_embeddings(one.dense, benchmark.names, one.inference.templates)
        segmenter = Segmenter(one.dense, embeddings, one.inference, one.inference.threshold)
        columns.append(segmenter.label_maps(pictures))
    return [
        [
            _zoomed(picture, zoom),
            *(_zoomed(overlay(picture, maps[place], True), zoom) for maps in columns),
        ]
        for place, picture in enumerate(pictures)
    ]


def data_url(picture: Image.Image) -> str:
    """A picture as a PNG inside the page."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return png_url(stream.getvalue())


def png_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _zoomed(picture: Image.Image, zoom: int = ZOOM) -> Image.Image:
    return picture.resize([side * zoom for side in picture.size], Image.Resampling.NEAREST)


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    picture = Image.fromarray(values.astype(np.float32))
    return np.array(picture.resize(size, Image.Resampling.BILINEAR))
