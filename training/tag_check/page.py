"""A page about a check: kept and dropped tags of random pictures, and the tags that were dropped most.

`page` is one self-contained file without scripts, `section` its content for a larger page.
"""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from training.images import decode_image
from training.tag_check.check import Check, Checked
from training.tag_check.decision import HIGH, LOW

TEMPLATE = Path(__file__).with_name("page.html.jinja")
TAGS = 12  # of the most dropped
FEWEST = 20  # captions of a tag that is shown
SIDE = 192  # pixels of a picture
_WIDTH, _HEIGHT = 240, 64  # of a histogram


@dataclass(frozen=True)
class Example:
    """A picture with a map of a tag, as data URLs, and the tag's score there."""

    picture: str
    map: str
    score: float


def page(checked: Checked) -> str:
    """The whole page as HTML; captions and tags are escaped."""
    return _render(checked, whole=True)


def section(checked: Checked) -> Markup:
    """The content alone, for a page with a style of its own; the names of its classes begin with `tc-`."""
    return Markup(_render(checked, whole=False))


def _render(checked: Checked, whole: bool) -> str:
    check, counts = checked.check, checked.counts
    scores = _scores(check)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        whole=whole,
        title=Path(check.settings.out).name,
        labels=Path(check.settings.labels).name,
        model=Path(check.clip.name.removeprefix("local-dir:")).name,
        counts=counts,
        every=counts.kept + counts.dropped,
        cards=_cards(check, scores, counts.threshold),
        tags=_tags(checked, scores),
    )


def _scores(check: Check) -> np.ndarray:
    return np.load(check.folder.path("scores.npy"), mmap_mode="r")


def _cards(check: Check, scores: np.ndarray, threshold: float) -> list[dict[str, Any]]:
    """Random pictures with their captions and tags."""
    rng = random.Random(check.settings.seed)
    chosen = rng.sample(range(len(check.images)), min(check.settings.page, len(check.images)))
    cards = []
    for image in chosen:
        picture = _picture(check, image)
        for row in check._rows(image)[:1]:
            if picture is not None:
                tags = _of_row(check, scores, int(row), threshold)
                [caption] = check.labels.captions([row])
                cards.append({"picture": _url(picture), "caption": caption, "tags": tags})
    return cards


def _of_row(
    check: Check, scores: np.ndarray, row: int, threshold: float
) -> list[tuple[str, str, str]]:
    """(tag, score in percent or "", kept, dropped or unjudged) of a row."""
    vocabulary = check.labels.vocabulary
    found = []
    start = int(check.labels.indptr[row])
    for place, tag in enumerate(check.labels.row(row).tolist(), start=start):
        score = float(scores[place])
        verdict = "unjudged" if np.isnan(score) else "kept" if score >= threshold else "dropped"
        shown = "" if np.isnan(score) else f"{100 * score:.0f}"
        found.append((vocabulary.tags[tag], shown, verdict))
    return found


def _tags(checked: Checked, scores: np.ndarray) -> list[dict[str, Any]]:
    """The tags that were dropped most often, then those of which the largest shares were, with their maps."""
    check, by_tag = checked.check, checked.counts.by_tag
    histograms = checked.model.histograms
    judged = (by_tag[:, 1] >= FEWEST) & (histograms.own.sum(1) > 0)
    share = np.where(judged, 1 - by_tag[:, 0] / np.maximum(by_tag[:, 1], 1), -1)
    dropped = np.where(judged, by_tag[:, 1] - by_tag[:, 0], 0)
    ranked = [np.argsort(-one, kind="stable")[:TAGS].tolist() for one in (dropped, share)]
    order = [tag for tag in dict.fromkeys(ranked[0][: TAGS // 2] + ranked[1]) if share[tag] > 0]
    order = order[:TAGS]
    examples = _examples(check, scores, order)
    threshold = checked.counts.threshold
    return [
        {
            "tag": check.labels.vocabulary.tags[tag],
            "share": 100 * share[tag],
            "count": int(by_tag[tag, 1]),
            "histogram": _histogram(histograms.own[tag], histograms.null[tag]),
            "examples": [
                ("found" if example.score >= threshold else "not found", example)
                for example in examples[tag]
            ],
        }
        for tag in order
    ]


def _examples(check: Check, scores: np.ndarray, tags: list[int]) -> dict[int, list[Example]]:
    """For each tag the picture of its best score and that of its worst."""
    wanted = set(tags)
    best: dict[int, tuple[float, int]] = {}
    worst: dict[int, tuple[float, int]] = {}
    for part in check.parts.all(check.chunks):
        row_of = np.repeat(part.rows, part.counts)
        inside = np.flatnonzero(np.isin(part.tags, tags) & ~np.isnan(part.z))
        for place in inside.tolist():
            tag, one = int(part.tags[place]), (float(part.z[place]), int(row_of[place]))
            best[tag] = max(best.get(tag, one), one)
            worst[tag] = min(worst.get(tag, one), one)
    found: dict[int, list[Example]] = {}
    for tag in wanted:
        ends = [side[tag] for side in (best, worst) if tag in side]
        found[tag] = [_example(check, scores, tag, row) for _, row in ends]
    return found


def _example(check: Check, scores: np.ndarray, tag: int, row: int) -> Example:
    image = int(check.joined.images[np.flatnonzero(check.joined.labels == row)[0]])
    place = int(np.searchsorted(check.images, image))
    picture = _picture(check, place)
    [pictures] = check.pictures.batches(np.array([image]), 1, 0)
    _, patches, _ = check.looker.encode(pictures.pixels)
    embedding = check.texts.embeddings[tag].to(patches.device)
    values = (patches[0] @ embedding).cpu().numpy()  # (N,)
    side = round(len(values) ** 0.5)
    start = int(check.labels.indptr[row])
    ids = check.labels.row(row).tolist()
    score = float(scores[start + ids.index(tag)])
    return Example(_url(picture), _url(_heat(picture, values.reshape(side, side))), score)


def _picture(check: Check, place: int) -> Image.Image | None:
    """One of the check's images, resized to a square as for the encoder."""
    row = check.index[int(check.images[place])]
    try:
        data = check.pictures.reader.read(row["file"], row["name"], row["offset"], row["size"])
        picture = decode_image(data)
    except Exception:  # the check could not decode it either
        return None
    method = Image.Resampling.NEAREST if picture.width < SIDE else Image.Resampling.LANCZOS
    return picture.resize((SIDE, SIDE), method)


def _heat(picture: Image.Image, values: np.ndarray) -> Image.Image:
    """A map over the grey picture, from its minimum (blue) to its maximum (red)."""
    large = Image.fromarray(values.astype(np.float32)).resize(
        picture.size, Image.Resampling.BILINEAR
    )
    array = np.array(large)
    array = (array - array.min()) / max(float(np.ptp(array)), 1e-9)
    colours = matplotlib.colormaps["turbo"](array)[..., :3] * 255
    grey = np.array(picture.convert("L").convert("RGB"), np.float32)
    return Image.fromarray((0.45 * grey + 0.55 * colours).round().astype(np.uint8))


def _url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _histogram(own: np.ndarray, null: np.ndarray) -> dict[str, Any]:
    """Outlines of both densities in a box of `_WIDTH` x `_HEIGHT`, and where 0 is."""
    used = np.flatnonzero(own + null)
    first, last = int(used[0]), int(used[-1]) + 1
    step = max((last - first) // 24, 1)
    edges = np.arange(first, last, step)
    shares = [
        np.add.reduceat(one[first:last], edges - first) / max(one.sum(), 1) for one in (own, null)
    ]
    top = max(share.max() for share in shares)
    wide = _WIDTH / len(edges)
    outlines = []
    for share in shares:
        points = [(0.0, float(_HEIGHT))]
        for i, value in enumerate(share):
            y = _HEIGHT * (1 - value / top)
            points += [(i * wide, y), ((i + 1) * wide, y)]
        points.append((float(_WIDTH), float(_HEIGHT)))
        outlines.append(" ".join(f"{x:.1f},{y:.1f}" for x, y in points))
    bins = len(own)
    zero = ((0 - LOW) * bins / (HIGH - LOW) - first) / step * wide
    return {"own": outlines[0], "null": outlines[1], "zero": f"{zero:.1f}",
            "width": _WIDTH, "height": _HEIGHT}  # fmt: skip
